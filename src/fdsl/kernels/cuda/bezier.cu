// Bezier curves: a thread works out every 256th point of a curve, then draws the pieces that begin there; then the next
// curve, which covers it where it has another hue.
//
// What bounds it: a point reads a weight for each control point from the L1 or L2 cache, and the control point, which
// all threads share, from shared memory, beside two fused products. A piece takes some forty operations, most of which
// find that it ends on its first pixel or the next one. For a thousand categories that is 5,000 passes through the
// cache's port a picture on average, and as many operations of a warp: less than writing 512 px takes.
#include "cuda/canvas.h"
#include "cuda/lane.h"
#include "shared/bezier.h"

namespace fdsl {

// A catalog's parameters follow the head of the task: (C) each; and the weights, see BezierCurves of primitives.py.
struct BezierTask : Task {
  const int32_t* control_points;
  const int32_t* curves;
  const float* weights;
  int32_t most;  // control points that there are weights for
  int32_t unused_too;
};

struct CurvePoint {
  uint32_t u, v;
};

struct BezierShared {
  Window window;
  float x[MAX_CONTROL_POINTS], y[MAX_CONTROL_POINTS];  // control points of the curve to come
  alignas(8) CurvePoint point[1];                      // as many as a curve of `most` has; the canvas follows
};

FDSL_INLINE void draw_bezier(const Block& block, const BezierTask& task, void* out) {
  auto& shared = block.shared<BezierShared>();
  const Spec& spec = task.spec;
  const Strip strip(block, task);
  const Key& it = task.record<Key>(strip.picture);
  // No number of a catalog that nobody read may lead out of the weights.
  const auto clamped = [](int32_t n, int32_t low, int32_t high) { return n < low ? low : n > high ? high : n; };
  const int count = clamped(task.control_points[it.category], 2, task.most);
  const int curves = clamped(task.curves[it.category], 1, MAX_CONTROL_POINTS - 1);
  const int points = bezier_points(count), pieces = PIECES * (count - 1);
  const float* const weights = task.weights + bezier_weights_start(count);
  uint8_t* const cells = clear_canvas(block, task, strip, shared.point + bezier_points(task.most));
  const auto set_control_point = [&](int curve, int thread) {
    const int n = curve * count + thread;
    if (thread < count) control_point_of(control_words(spec, it, n), n, shared.x[thread], shared.y[thread]);
  };
  block.each([&](int thread) {
    set_control_point(0, thread);
    if (thread == 0) shared.window = place_window(spec, it, spec.of, spec.of, 0.0, 0.0);
  });
  const Window& w = shared.window;
  const int32_t left = w.left + MARGIN, top = w.top + MARGIN + strip.first;
  const Canvas canvas(cells, {left, top, left + spec.size, top + strip.rows}, w.mirror);
  for (int curve = 0; curve < curves; ++curve) {
    block.each([&](int thread) {
      for (int i = thread; i <= pieces; i += THREADS) {
        CurvePoint& to = shared.point[i];
        bezier_cells<Lane>(shared.x, shared.y, count, weights + i, points, w.placement, &to.u, &to.v);
      }
    });
    block.each([&](int thread) {
      const uint8_t value = spec.color == COLOR_COLOR ? 1 + curve * static_cast<int>(HUES) / curves : 1;
      for (int i = thread; i < pieces; i += THREADS) {
        const CurvePoint from = shared.point[i], to = shared.point[i + 1];
        // The piece before has put the pixel that this one starts on.
        const int32_t x1 = static_cast<int32_t>(to.u), y1 = static_cast<int32_t>(to.v);
        if (i == 0 || to.u - from.u + 1u > 2u || to.v - from.v + 1u > 2u)
          canvas.draw(from.u, from.v, x1, y1, value);
        else if (canvas.shows(x1, y1))
          canvas.put(x1, y1, value);
      }
      if (curve + 1 < curves) set_control_point(curve + 1, thread);
    });
  }
  write_canvas(block, task, strip, cells, out);
}

}  // namespace fdsl

FDSL_SIZE(bezier_task, fdsl::BezierTask)
FDSL_SIZE(bezier_shared, fdsl::BezierShared)
FDSL_KERNEL(draw_bezier, BezierTask)
