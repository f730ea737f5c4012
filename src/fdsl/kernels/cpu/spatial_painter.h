// The model of a system in space, seen by a camera, for point_painter.h, and its measurement.
#pragma once

#include "cpu/point_painter.h"
#include "shared/camera.h"

namespace fdsl {

template <class V>
struct SpatialModel {
  using Instance = SpatialInstance;
  using System = SpatialSystem;
  using Maps = SpatialMaps<V>;
  using Trajectories = SpatialTrajectories<V>;
  using Float = typename V::Float;
  static constexpr int W = V::WIDTH;

  const Spec& spec;
  const SpatialInstance& it;
  System system;
  Extent extent;  // of the fit

  explicit FDSL_MEMBER SpatialModel(const SpatialTask& task) : spec(*task.spec), it(*task.instance), extent(it.extent) {
    set_system(system, task.affine, task.probability, task.maps, it.factor);
  }

  // The camera sees normalised device coordinates from -1 to 1 across the whole picture, y upward.
  FDSL_MEMBER Window window(const uint32_t* seeds) {
    if (spec.fit == FIT_OWN) extent = own_extent(seeds);
    const double half = 0.5 * spec.of;
    return place_window(spec, it, half, half, half, half);
  }

  FDSL_MEMBER System placed(const Window& w) const {
    System placed;
    place_system(placed, system, place_camera(extent, it.turn, it.elevation, w.placement));
    return placed;
  }

  struct Point {
    Float x, y;
  };
  // Bound by the divider: one division for both coordinates. What the camera does not see comes to infinity or to no
  // number, which the cells' clamp drops.
  static FDSL_MEMBER Point seen(const Trajectories& t) {
    const auto visible = V::between(V::set(CAMERA_NEAR), t.z, V::set(CAMERA_FAR));
    const Float inverse = V::minimum_where(visible, V::divide(V::set(1.0f), t.z), V::set(__builtin_inff()));
    return {V::multiply(t.x, inverse), V::multiply(t.y, inverse)};
  }

  // Least and largest coordinate and centre of mass of the points whose three coordinates lie within the probe's. A
  // NaN or an infinity comes to all coordinates at once, so that the last of three comparisons sees it.
  //
  // Each trajectory sums its own points, and the sums are added in the order of the trajectories: the width of a
  // register changes nothing.
  FDSL_MEMBER Extent own_extent(const uint32_t* seeds) const {
    constexpr int G = V::GROUPS;
    const float far = __builtin_inff(), bound_low = it.extent.low, bound_high = it.extent.high;
    const Float zero = V::set(0.0f), one = V::set(1.0f), under = V::set(bound_low), over = V::set(bound_high);
    Float low = V::set(far), high = V::set(-far);
    Float sum[G][4];  // of x, y, z and the number of points
    for (auto& group : sum)
      for (Float& axis : group) axis = zero;
    double total[4] = {};
    Extent own = {far, -far, {}};
    const auto each = [&](const Trajectories& t, int g) __attribute__((always_inline)) {
      const Float least = V::minimum(V::minimum(t.x, t.y), t.z), most = V::maximum(V::maximum(t.x, t.y), t.z);
      const auto inside = V::both(V::at_least(least, under), V::at_least(over, most));
      low = V::minimum_where(inside, least, low);
      high = V::maximum_where(inside, most, high);
      sum[g][0] = V::add_where(inside, t.x, sum[g][0]);
      sum[g][1] = V::add_where(inside, t.y, sum[g][1]);
      sum[g][2] = V::add_where(inside, t.z, sum[g][2]);
      sum[g][3] = V::add_where(inside, one, sum[g][3]);
    };
    const auto last = [&](const Trajectories& t, int g, int, int active) __attribute__((always_inline)) {
      float at[3][W], sums[4][W];
      V::store(at[0], t.x);
      V::store(at[1], t.y);
      V::store(at[2], t.z);
      for (int axis = 0; axis < 4; ++axis) {
        V::store(sums[axis], sum[g][axis]);
        sum[g][axis] = zero;
      }
      for (int i = 0; i < W; ++i) {
        bool inside = i < active;
        for (int axis = 0; axis < 3; ++axis) inside = inside && at[axis][i] >= bound_low && at[axis][i] <= bound_high;
        for (int axis = 0; axis < 3; ++axis) {
          total[axis] += inside ? sums[axis][i] + at[axis][i] : sums[axis][i];
          if (inside) widen(own, at[axis][i], at[axis][i]);
        }
        total[3] += inside ? sums[3][i] + 1.0f : sums[3][i];
      }
    };
    walk<V, G, Trajectories, Maps>(system, seeds, spec.points, each, last, [](int) { return true; });
    float lows[W], highs[W];
    V::store(lows, low);
    V::store(highs, high);
    for (int i = 0; i < W; ++i) widen(own, lows[i], highs[i]);
    if (!(total[3] > 0.0)) return it.extent;  // no point within it
    // No negative zero: which of the two zeros a minimum keeps depends on the order.
    own.low += 0.0f;
    own.high += 0.0f;
    for (int axis = 0; axis < 3; ++axis) own.centre[axis] = static_cast<float>(total[axis] / total[3]);
    return own;
  }

  static FDSL_MEMBER void widen(Extent& extent, float low, float high) {
    extent.low = low < extent.low ? low : extent.low;
    extent.high = high > extent.high ? high : extent.high;
  }
};

// Extent of a cloud, and the variance of each coordinate once all three span 2. What is hopeless after a fourth of the
// trajectories is not walked further, and what comes back is of that fourth.
template <class V>
SpatialMeasurement measure_spatial(const SpatialTask& task, float least) {
  using Model = SpatialModel<V>;
  using Float = typename V::Float;
  constexpr int W = V::WIDTH, FIRST = TRAJECTORIES / 4, G = W * V::GROUPS < FIRST ? V::GROUPS : FIRST / W;
  const Model model(task);
  const SpatialSystem& system = model.system;
  uint32_t seeds[TRAJECTORIES];
  const auto seed = [&](int from, int to) {
    const SpatialInstance& it = *task.instance;
    for (int j = from; j < to; ++j)
      seeds[j] =
          nonzero(keyed_words(task.spec->seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, j).word[0]);
  };
  seed(0, FIRST);
  const float far = __builtin_inff();
  const Float zero = V::set(0.0f);
  // Seen from the start, which lies on the attractor: squares of small numbers lose little.
  const Float x0 = V::set(system.start[0]), y0 = V::set(system.start[1]), z0 = V::set(system.start[2]);
  Float low = V::set(far), high = V::set(-far);
  Float sum[G][3], square[G][3];
  for (int g = 0; g < G; ++g)
    for (int axis = 0; axis < 3; ++axis) sum[g][axis] = square[g][axis] = zero;
  double total[3] = {}, squares[3] = {};
  SpatialMeasurement result = {};
  const auto each = [&](const typename Model::Trajectories& t, int g) __attribute__((always_inline)) {
    low = V::minimum(t.z, V::minimum(t.y, V::minimum(t.x, low)));
    high = V::maximum(t.z, V::maximum(t.y, V::maximum(t.x, high)));
    const Float at[3] = {V::subtract(t.x, x0), V::subtract(t.y, y0), V::subtract(t.z, z0)};
    for (int axis = 0; axis < 3; ++axis) {
      sum[g][axis] = V::add(at[axis], sum[g][axis]);
      square[g][axis] = V::fma(at[axis], at[axis], square[g][axis]);
    }
  };
  int count = 0;
  const auto last = [&](const typename Model::Trajectories& t, int g, int, int active) __attribute__((always_inline)) {
    float at[3][W], sums[3][W], squared[3][W];
    V::store(at[0], t.x);
    V::store(at[1], t.y);
    V::store(at[2], t.z);
    count += W * (task.spec->points / TRAJECTORIES) + active;
    for (int axis = 0; axis < 3; ++axis) {
      V::store(sums[axis], sum[g][axis]);
      V::store(squared[axis], square[g][axis]);
      sum[g][axis] = square[g][axis] = zero;
      for (int i = 0; i < W; ++i) {
        const float by = i < active ? at[axis][i] - system.start[axis] : 0.0f;
        total[axis] += sums[axis][i] + by;
        squares[axis] += fused(by, by, squared[axis][i]);
        if (i < active) Model::widen(result.extent, at[axis][i], at[axis][i]);
      }
    }
  };
  const auto finish = [&] {
    float lows[W], highs[W];
    V::store(lows, low);
    V::store(highs, high);
    for (int i = 0; i < W; ++i) Model::widen(result.extent, lows[i], highs[i]);
    conclude(result, total, squares, count, system.start);
  };
  result.extent = {far, -far, {}};
  const auto after = [&](int trajectories) {
    if (trajectories != FIRST) return true;
    if (least > 0.0f) {
      finish();
      if (is_hopeless(result, least)) return false;
    }
    seed(FIRST, TRAJECTORIES);
    return true;
  };
  walk<V, G, typename Model::Trajectories, typename Model::Maps>(system, seeds, task.spec->points, each, last, after);
  finish();
  result.extent.low += 0.0f;  // no negative zero
  result.extent.high += 0.0f;
  return result;
}

}  // namespace fdsl
