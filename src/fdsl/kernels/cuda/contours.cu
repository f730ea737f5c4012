// Radial contours: thread j owns the vertices j, j + 256, ... of a picture, and the segments that begin there. All
// step, then all draw the line in its one value, by plain stores; so line by line.
//
// What bounds it: 75 operations for a vertex (two thirds for the noise of two axes, the rest for its pixel), some 60 to
// begin a segment, and nine for each of its pixels, four on average. The noise reads shared memory four times with
// three or four lanes to a bank, and the pixels' stores meet likewise: some 30 passes for a warp's segments, beside 45
// cycles of the four schedulers.
//
// Where the bytes lie: in shared memory, beside eight bytes for each vertex, which takes two strips for 224 px and
// seven for 512 px, each of which steps all vertices again. In the memory outside, no vertex steps twice, but a byte
// stored takes a sector of 32 of the L2 cache: 7.7 MB for 60,000 segments of four pixels. At 5 TB/s that is 1.5 us of
// the GPU, as long as 17,000 lanes at 1.7 GHz take to step the vertices eight times: so beyond eight strips it lies
// there.
//
// A vertex begins with three sines in double, which GPUs for graphics work out 32 or 64 times more slowly.
#include "cuda/canvas.h"
#include "cuda/lane.h"
#include "shared/contours.h"

namespace fdsl {

struct ContoursTask : Task {
  int32_t most;  // vertices of any picture of the batch
  int32_t unused_too;
};

struct PixelPosition {
  int32_t column, row;
};

struct ContoursShared {
  ContourInstance it;
  ContourPlacement placement;
  bool mirror;
  float slopes[256];
  uint8_t shade[THREADS];              // of the lines to come
  alignas(8) PixelPosition vertex[1];  // as many as `most`; the canvas follows

  // No number of a catalog that nobody read may lead out of the vertices.
  FDSL_MEMBER void clamp(int most) {
    const auto clamped = [](int32_t n, int32_t low, int32_t high) { return n < low ? low : n > high ? high : n; };
    it.vertices = clamped(it.vertices, 1, most);
    it.lines = clamped(it.lines, 0, MAX_LINES);
    it.breaks = clamped(it.breaks, 0, MAX_BREAKS);
  }
};

FDSL_COLD void place(ContoursShared& shared, const Spec& spec, double x, double y) {
  shared.placement = ContourPlacement(spec, shared.it, x, y, &shared.mirror);
}
FDSL_COLD void make(Vertex& vertex, const ContourInstance& it, uint64_t seed, uint32_t i) {
  vertex = make_vertex(it, seed, i);
}

// VERTICES: of a thread. Up to four stay in registers; more go to the thread's own memory, which is in the L1 cache.
template <int VERTICES>
FDSL_INLINE void draw_contours(const Block& block, const ContoursTask& task, void* out) {
  struct Own {
    Vertex vertex[VERTICES];
  };
  auto& shared = block.shared<ContoursShared>();
  const Spec& spec = task.spec;
  const Strip strip(block, task);
  uint8_t* const cells = clear_canvas(block, task, strip, shared.vertex + task.most);
  block.each([&](int thread) {
    copy_words(shared.it, task.record<ContourInstance>(strip.picture), thread);
    shared.slopes[thread] = LATTICE_SLOPES.slope[thread];
  });
  block.each([&](int thread) {
    if (thread > 0) return;
    shared.clamp(task.most);
    place(shared, spec, shared.it.centre[0], shared.it.centre[1]);
  });
  const ContourInstance& it = shared.it;
  const int vertices = it.vertices, lines = it.lines;
  const Canvas canvas(cells, {0, strip.first, spec.size, strip.first + strip.rows}, shared.mirror);
  Block::Local<Own> own;
  block.each([&](int thread) {
    FDSL_UNROLL_BY((VERTICES <= 4 ? VERTICES : 1))
    for (int k = 0; k < VERTICES; ++k) {
      Vertex vertex;
      make(vertex, it, spec.seed, thread + k * THREADS);
      own[thread].vertex[k] = vertex;
    }
  });
  const Lane::Slopes slopes(shared.slopes);
  const ContourPlacement placement = shared.placement;
  const float gain = static_cast<float>(it.gain * NOISE_SCALE);
  for (int line = 0; line < lines; ++line) {
    block.each([&](int thread) {
      if (line % THREADS == 0) shared.shade[thread] = line_shade(it, spec.seed, line + thread);
      FDSL_UNROLL_BY((VERTICES <= 4 ? VERTICES : 1))
      for (int k = 0; k < VERTICES; ++k) {
        const int i = thread + k * THREADS;
        if (i >= vertices) break;
        Vertex& v = own[thread].vertex[k];
        v.x = fused(v.minus_cosine, push<Lane>(v.state_x, gain, v.bend, slopes), v.x);
        v.y = fused(v.minus_sine, push<Lane>(v.state_y, gain, v.bend, slopes), v.y);
        uint32_t column, row;
        place_points<Lane>(placement, v.x, v.y, column, row);
        shared.vertex[i] = {static_cast<int32_t>(column), static_cast<int32_t>(row)};
      }
    });
    block.each([&](int thread) {
      const uint8_t value = shared.shade[line % THREADS];
      for (int i = thread; i < vertices; i += THREADS) {
        const PixelPosition from = shared.vertex[i], to = shared.vertex[i + 1 < vertices ? i + 1 : 0];
        canvas.draw(from.column, from.row, to.column, to.row, value);
      }
    });
  }
  // Lines in the ground's colour, anywhere in the plane.
  if (it.breaks > 0) {
    block.each([&](int thread) {
      if (thread == 0) place(shared, spec, 0.0, 0.0);
    });
    block.each([&](int thread) {
      for (int i = thread; i < it.breaks; i += THREADS) {
        float ends[4];
        break_ends(it, spec.seed, i, ends);
        uint32_t x0, y0, x1, y1;
        place_points<Lane>(shared.placement, ends[0], ends[1], x0, y0);
        place_points<Lane>(shared.placement, ends[2], ends[3], x1, y1);
        canvas.draw(x0, y0, x1, y1, 0);
      }
    });
  }
  write_canvas(block, task, strip, cells, out);
}

FDSL_INLINE void draw_contours_4(const Block& b, const ContoursTask& t, void* out) { draw_contours<4>(b, t, out); }
FDSL_INLINE void draw_contours_16(const Block& b, const ContoursTask& t, void* out) { draw_contours<16>(b, t, out); }

}  // namespace fdsl

FDSL_SIZE(contours_task, fdsl::ContoursTask)
FDSL_SIZE(contours_shared, fdsl::ContoursShared)
FDSL_KERNEL(draw_contours_4, ContoursTask, 4)
FDSL_KERNEL(draw_contours_16, ContoursTask)
