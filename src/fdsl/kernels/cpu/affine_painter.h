// The model of an affine system in the plane, for point_painter.h, and its measurement.
#pragma once

#include "cpu/point_painter.h"

namespace fdsl {

template <class V>
struct AffineModel {
  using Instance = AffineInstance;
  using System = fdsl::System;
  using Maps = fdsl::Maps<V>;
  using Trajectories = fdsl::Trajectories<V>;
  using Float = typename V::Float;
  static constexpr int W = V::WIDTH;

  const Spec& spec;
  const AffineInstance& it;
  System system;

  explicit FDSL_MEMBER AffineModel(const AffineTask& task) : spec(*task.spec), it(*task.instance) {
    set_system(system, task.affine, task.probability, task.maps, it.factor);
  }

  // Scaled to the probe's box, or to the picture's own within it.
  FDSL_MEMBER Window window(const uint32_t* seeds) const {
    bool sound;
    return place_window(spec, it, spec.fit == FIT_STORED ? it.box : own_box(seeds, it.box, &sound));
  }

  FDSL_MEMBER System placed(const Window& w) const {
    System placed;
    place_system(placed, system, w.placement);
    return placed;
  }

  static FDSL_MEMBER const Trajectories& seen(const Trajectories& t) { return t; }

  // The box of the points within `bound`; `sound` says whether every trajectory ended there. A NaN is nowhere.
  Box own_box(const uint32_t* seeds, const Box& bound, bool* sound) const {
    const float far = __builtin_inff();
    const Float left = V::set(bound.x0), right = V::set(bound.x1), low = V::set(bound.y0), high = V::set(bound.y1);
    Float x0 = V::set(far), x1 = V::set(-far), y0 = x0, y1 = x1;
    Box box = {far, -far, far, -far};
    *sound = true;
    const auto each = [&](const Trajectories& t, int) __attribute__((always_inline)) {
      const auto inside = V::both(V::between(left, t.x, right), V::between(low, t.y, high));
      x0 = V::minimum_where(inside, t.x, x0);
      x1 = V::maximum_where(inside, t.x, x1);
      y0 = V::minimum_where(inside, t.y, y0);
      y1 = V::maximum_where(inside, t.y, y1);
    };
    const auto last = [&](const Trajectories& t, int, int, int active) __attribute__((always_inline)) {
      float x[W], y[W];
      V::store(x, t.x);
      V::store(y, t.y);
      for (int i = 0; i < W; ++i) {
        const bool inside = x[i] >= bound.x0 && x[i] <= bound.x1 && y[i] >= bound.y0 && y[i] <= bound.y1;
        *sound = *sound && inside;
        if (inside && i < active) widen(box, {x[i], x[i], y[i], y[i]});
      }
    };
    walk<V, V::GROUPS, Trajectories, Maps>(system, seeds, spec.points, each, last, [](int) { return true; });
    float lx0[W], lx1[W], ly0[W], ly1[W];
    V::store(lx0, x0);
    V::store(lx1, x1);
    V::store(ly0, y0);
    V::store(ly1, y1);
    for (int i = 0; i < W; ++i) widen(box, {lx0[i], lx1[i], ly0[i], ly1[i]});
    if (!(box.x0 <= box.x1)) return bound;  // no point within it
    // No negative zero: which of the two zeros a minimum keeps depends on the order.
    return {box.x0 + 0.0f, box.x1 + 0.0f, box.y0 + 0.0f, box.y1 + 0.0f};
  }
};

// Box and hit pixels of a point picture.
template <class V>
Measurement measure_affine(const AffineTask& task, int32_t enough, void* scratch) {
  const Spec& spec = *task.spec;
  const Painter<V, AffineModel<V>> painter(task);
  Measurement result = {};
  result.box = painter.model.own_box(painter.seeds, task.instance->box, &result.finite);
  if (!result.finite) return result;
  const Window w = place_window(spec, *task.instance, result.box);
  const Grid grid(w, *task.instance, spec.size, (spec.size + 2 * MARGIN + 63) / 64 * 64);
  uint64_t* bits = static_cast<uint64_t*>(scratch) + 8;
  const auto count = [&](int points) {
    painter.paint_bits(w, grid, points, bits);
    int32_t pixels = 0;
    for (int i = 0; i < grid.rows * grid.stride / 64; ++i) pixels += __builtin_popcountll(bits[i]);
    return pixels;
  };
  if (counts_early(spec.points, enough)) {
    result.pixels = count(spec.points / 8);
    if (is_decided(result.pixels, enough)) return result;
  }
  result.pixels = count(spec.points);
  return result;
}

}  // namespace fdsl
