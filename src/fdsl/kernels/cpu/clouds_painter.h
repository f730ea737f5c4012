// Drawing one point cloud on one CPU thread, over any lane type. Each instruction set compiles this in its own file.
//
// What bounds it: at 2,048 points the burn-in, five steps to each that draws, and so the one port that permutes; from
// some 5,000 points on the passes over the points, which leave the first-level cache.
#pragma once

#include <cstring>

#include "cpu/clouds.h"
#include "shared/spatial_ifs.h"

namespace fdsl {

// x, y and z of a part's points, with room for whole steps of all trajectories.
struct Axes {
  float* at[3];
};

// Start states of the trajectories of either part: the first words of Philox, and the second.
struct CloudSeeds {
  alignas(64) uint32_t own[TRAJECTORIES], partner[PARTNER_TRAJECTORIES];

  explicit FDSL_MEMBER CloudSeeds(uint64_t seed, const CloudInstance& it) {
    for (uint32_t j = 0; j < TRAJECTORIES; ++j) {
      const Words r = keyed_words(seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, j);
      own[j] = nonzero(r.word[0]);
      if (j < PARTNER_TRAJECTORIES) partner[j] = nonzero(r.word[1]);
    }
  }
};

// Points by rising key t * trajectories + trajectory. No NaN and nothing beyond 2^60 gets in, so that every width is
// finite.
template <class V>
FDSL_MEMBER void iterate(const SpatialSystem& system, const uint32_t* seeds, int trajectories, int points,
                         const Axes& axes) {
  constexpr int W = V::WIDTH, G = 2, CHUNK = W * G;  // two hide the latency: a step is bound by one port
  const SpatialMaps<V> maps(system);
  const typename V::Float far = V::set(0x1p60f), back = V::set(-0x1p60f);
  for (int base = 0; base < trajectories && base < points; base += CHUNK) {
    SpatialTrajectories<V> t[G];
    for (int g = 0; g < G; ++g) t[g].begin(system, seeds + base + g * W);
    for (int s = 0; s < BURN_IN; ++s)
      for (int g = 0; g < G; ++g) t[g].step(maps);
    for (int first = base; first < points; first += trajectories)
      for (int g = 0; g < G; ++g) {
        t[g].step(maps);
        V::store(axes.at[0] + first + g * W, V::minimum(V::maximum(t[g].x, back), far));
        V::store(axes.at[1] + first + g * W, V::minimum(V::maximum(t[g].y, back), far));
        V::store(axes.at[2] + first + g * W, V::minimum(V::maximum(t[g].z, back), far));
      }
  }
}

template <class V>
FDSL_MEMBER CloudPart measure_part(const Axes& axes, int points) {
  using Float = typename V::Float;
  using Int = typename V::Int;
  constexpr int W = V::WIDTH;
  const int whole = (points + W - 1) / W * W;
  for (int axis = 0; axis < 3; ++axis)  // the last register's other lanes change neither ends nor centroid
    for (int i = points; i < whole; ++i) axes.at[axis][i] = axes.at[axis][0];
  Float low[3], high[3];
  for (int axis = 0; axis < 3; ++axis) low[axis] = high[axis] = V::load(axes.at[axis]);
  for (int i = W; i < whole; i += W)
    for (int axis = 0; axis < 3; ++axis) {
      const Float here = V::load(axes.at[axis] + i);
      low[axis] = V::minimum(here, low[axis]);
      high[axis] = V::maximum(here, high[axis]);
    }
  CloudPart part;
  for (int axis = 0; axis < 3; ++axis) {
    float lows[W], highs[W];
    V::store(lows, low[axis]);
    V::store(highs, high[axis]);
    for (int i = 1; i < W; ++i) {
      lows[0] = lows[i] < lows[0] ? lows[i] : lows[0];
      highs[0] = highs[i] > highs[0] ? highs[i] : highs[0];
    }
    // No negative zero: which of the two zeros a minimum keeps depends on the order.
    part.low[axis] = lows[0] + 0.0f;
    part.high[axis] = highs[0] + 0.0f;
  }
  // Sums of normalised coordinates in units of 2^-20: whole numbers add up alike in any order. A block's fit 32 bits.
  constexpr int BLOCK = 1024;
  const MinMax range = min_max(part);
  const Float one = V::set(1.0f), least = V::set(-range.low);
  const Float scale = V::set(range.scale * 0x1p20f), middle = V::set(-0x1p20f);
  const auto fixed = [&](const float* at) __attribute__((always_inline)) {
    return V::truncate(V::fma(V::fma(one, V::load(at), least), scale, middle));
  };
  int64_t sum[3] = {};
  for (int first = 0; first < whole; first += BLOCK) {
    const int last = first + BLOCK < whole ? first + BLOCK : whole;
    Int sums[3];
    for (int axis = 0; axis < 3; ++axis) sums[axis] = V::set(int32_t{0});
    for (int i = first; i < last; i += W)
      for (int axis = 0; axis < 3; ++axis) sums[axis] = V::add(sums[axis], fixed(axes.at[axis] + i));
    for (int axis = 0; axis < 3; ++axis) {
      uint32_t lanes[W];
      V::store(lanes, sums[axis]);
      for (int i = 0; i < W; ++i) sum[axis] += static_cast<int32_t>(lanes[i]);
    }
  }
  for (int axis = 0; axis < 3; ++axis) {
    uint32_t first[W];
    V::store(first, fixed(axes.at[axis]));
    sum[axis] -= static_cast<int64_t>(whole - points) * static_cast<int32_t>(first[0]);
    part.centroid[axis] = static_cast<double>(sum[axis]) / points * 0x1p-20;
  }
  return part;
}

template <class V>
FDSL_MEMBER void write_part(const Axes& axes, int points, const CloudPart& part, const CloudPlacement& to, float* out) {
  using Float = typename V::Float;
  constexpr int W = V::WIDTH;
  const Float one = V::set(1.0f), xx = V::set(to.xx), xy = V::set(to.xy), yx = V::set(to.yx), yy = V::set(to.yy);
  const Float zz = V::set(to.zz), tx = V::set(to.t[0]), ty = V::set(to.t[1]), tz = V::set(to.t[2]);
  const Float low_x = V::set(-part.low[0]), low_y = V::set(-part.low[1]), low_z = V::set(-part.low[2]);
  for (int i = 0; i < points; i += W) {
    const Float x = V::fma(one, V::load(axes.at[0] + i), low_x), y = V::fma(one, V::load(axes.at[1] + i), low_y);
    const Float z = V::fma(one, V::load(axes.at[2] + i), low_z);
    const Float px = V::fma(xx, x, V::fma(xy, y, tx)), py = V::fma(yx, x, V::fma(yy, y, ty)), pz = V::fma(zz, z, tz);
    if (i + W <= points) {
      V::store_points(out + 3 * static_cast<size_t>(i), px, py, pz);
    } else {
      float last[3 * W];
      V::store_points(last, px, py, pz);
      std::memcpy(out + 3 * static_cast<size_t>(i), last, sizeof(float) * 3 * (points - i));
    }
  }
}

template <class V>
void draw_cloud(const CloudTask& task, void* scratch) {
  const CloudSpec& spec = *task.spec;
  const CloudInstance& it = *task.instance;
  const CloudParameters& p = *task.parameters;
  const CloudSeeds seeds(spec.seed, it);
  const uint32_t category[2] = {it.category, partner_of(spec, it)};
  const int size[2] = {spec.own, spec.points - spec.own}, count = size[1] > 0 ? 2 : 1;
  const size_t room = cloud_room(spec.points);
  float* const floats = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch) + 63) / 64 * 64);
  Axes axes[2];
  CloudPart parts[2];
  CloudPlacement placements[2];
  for (int k = 0; k < count; ++k) {
    for (int axis = 0; axis < 3; ++axis)
      axes[k].at[axis] = floats + axis * room + (k ? (size[0] + TRAJECTORIES - 1) / TRAJECTORIES * TRAJECTORIES : 0);
    const size_t row = static_cast<size_t>(category[k]) * p.width;
    // A large catalog's arrays were not read when it was opened: no number in them may lead out of the row.
    const int32_t maps = p.maps[category[k]];
    constexpr double unvaried[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    SpatialSystem system;
    set_system(system, p.affine + row * 12, p.probability + row,
               maps < 1         ? 1
               : maps > p.width ? p.width
                                : maps,
               unvaried);
    if (k == 0)
      iterate<V>(system, seeds.own, TRAJECTORIES, size[k], axes[k]);
    else
      iterate<V>(system, seeds.partner, PARTNER_TRAJECTORIES, size[k], axes[k]);
    parts[k] = measure_part<V>(axes[k], size[k]);
  }
  place_cloud(it, parts, count, placements);
  write_part<V>(axes[0], size[0], parts[0], placements[0], task.out);
  if (count == 2) write_part<V>(axes[1], size[1], parts[1], placements[1], task.out + 3 * static_cast<size_t>(size[0]));
}

}  // namespace fdsl
