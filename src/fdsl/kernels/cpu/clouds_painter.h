// Drawing one point cloud on one CPU thread, over any lane type. Each instruction set compiles this in its own file.
//
// What bounds it: at 2,048 points the burn-in, five steps to each that draws, and so the one port that permutes; from
// some 5,000 points on the passes over the points, which leave the first-level cache.
#pragma once

#include <cstring>

#include "cpu/clouds.h"
#include "cpu/lanes_portable.h"
#include "cpu/point_painter.h"

namespace fdsl {

// x, y and z of a part's points, with room for whole steps of all trajectories.
struct Axes {
  float* at[3];
};

// Start states of all trajectories, the category's own before its partner's: a quarter of them to each word of Philox,
// because drawing them one by one would take a tenth of the time.
template <class V>
struct CloudSeeds {
  alignas(64) uint32_t state[TRAJECTORIES + PARTNER_TRAJECTORIES];

  explicit FDSL_MEMBER CloudSeeds(uint64_t seed, const CloudInstance& it) {
    constexpr uint32_t QUARTER = (TRAJECTORIES + PARTNER_TRAJECTORIES) / 4;
    for (uint32_t j = 0; j < QUARTER; j += V::WIDTH) {
      typename V::Int word[4];
      keyed_words<V>(seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, j, word);
      for (int k = 0; k < 4; ++k) V::store(state + j + k * QUARTER, word[k]);
    }
    for (uint32_t& each : state) each = nonzero(each);
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
  const Float least = V::set(-range.low);
  const Float scale = V::set(range.scale * 0x1p20f), middle = V::set(-0x1p20f);
  const auto fixed = [&](const float* at) __attribute__((always_inline)) {
    return V::truncate(V::fma(V::add(V::load(at), least), scale, middle));
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
  const Float xx = V::set(to.xx), xy = V::set(to.xy), yx = V::set(to.yx), yy = V::set(to.yy);
  const Float zz = V::set(to.zz), tx = V::set(to.t[0]), ty = V::set(to.t[1]), tz = V::set(to.t[2]);
  const Float low_x = V::set(-part.low[0]), low_y = V::set(-part.low[1]), low_z = V::set(-part.low[2]);
  for (int i = 0; i < points; i += W) {
    const Float x = V::add(V::load(axes.at[0] + i), low_x), y = V::add(V::load(axes.at[1] + i), low_y);
    const Float z = V::add(V::load(axes.at[2] + i), low_z);
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

// The points of a cloud, as the systems give them, and where they go.
template <class V>
struct Cloud {
  int size[2], count;  // points of each part, and how many parts
  Axes axes[2];
  CloudPart parts[2];
  CloudPlacement placements[2];

  FDSL_MEMBER Cloud(const CloudSpec& spec, const CloudInstance& it, const AffineParameters& p, void* scratch)
      : size{spec.own, spec.points - spec.own}, count(size[1] > 0 ? 2 : 1) {
    const CloudSeeds<V> seeds(spec.seed, it);
    const uint32_t category[2] = {it.category, partner_of(spec, it)};
    const size_t room = cloud_room(spec.points);
    float* const floats = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch) + 63) / 64 * 64);
    for (int k = 0; k < count; ++k) {
      for (int axis = 0; axis < 3; ++axis)
        axes[k].at[axis] = floats + axis * room + (k ? (size[0] + TRAJECTORIES - 1) / TRAJECTORIES * TRAJECTORIES : 0);
      const size_t row = static_cast<size_t>(category[k]) * p.width;
      constexpr double unvaried[12] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
      SpatialSystem system;
      set_system(system, p.affine + row * 12, p.probability + row, p.maps_of(category[k]), unvaried);
      if (k == 0)
        iterate<V>(system, seeds.state, TRAJECTORIES, size[k], axes[k]);
      else
        iterate<V>(system, seeds.state + TRAJECTORIES, PARTNER_TRAJECTORIES, size[k], axes[k]);
      parts[k] = measure_part<V>(axes[k], size[k]);
    }
    place_cloud(it, parts, count, placements);
  }
};

template <class V>
void draw_cloud(const CloudTask& task, void* scratch) {
  const Cloud<V> cloud(*task.spec, *task.instance, *task.parameters, scratch);
  float* out = task.out;
  for (int k = 0; k < cloud.count; ++k) {
    write_part<V>(cloud.axes[k], cloud.size[k], cloud.parts[k], cloud.placements[k], out);
    out += 3 * static_cast<size_t>(cloud.size[k]);
  }
}

// A cloud before a camera, for draw_window. Point i is step i / 256 of trajectory i % 256 to colours and patches.
template <class V>
struct CloudPainter {
  using Float = typename V::Float;
  static constexpr int W = V::WIDTH;

  const Spec& spec;
  const CloudPicture& it;
  const Cloud<V>& cloud;

  // Calls visit(step, trajectory, u, v, stamp) for every point inside the window's rectangle, in their order.
  template <class Visit>
  FDSL_MEMBER void visit_in_order(const Window& w, Visit visit) const {
    if (w.u0 >= w.u1 || w.v0 >= w.v1) return;
    uint32_t stamp[TRAJECTORIES];
    for (uint32_t j = 0; j < TRAJECTORIES; ++j)
      stamp[j] =
          nonzero(keyed_words(spec.seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, 256 + j).word[0]);
    const Extent normalised = {-1.0f, 1.0f, {0.0f, 0.0f, 0.0f}};
    const SpatialPlacement camera = place_camera(normalised, it.turn, 0, w.placement);
    const Float one = V::set(1.0f);
    const Clamp<V> clamp(w);
    const uint32_t u_first = w.u0 + MARGIN, u_count = w.u1 - w.u0, v_first = w.v0 + MARGIN, v_count = w.v1 - w.v0;
    int number = 0;
    for (int k = 0; k < cloud.count; ++k) {
      const CloudPlacement& p = cloud.placements[k];
      Float m[3][3], t[3], low[3];
      for (int row = 0; row < 3; ++row) {
        const double* c = camera.m[row];
        m[row][0] = V::set(static_cast<float>(c[0] * p.xx + c[1] * p.yx));
        m[row][1] = V::set(static_cast<float>(c[0] * p.xy + c[1] * p.yy));
        m[row][2] = V::set(static_cast<float>(c[2] * p.zz));
        t[row] = V::set(static_cast<float>(c[0] * p.t[0] + c[1] * p.t[1] + c[2] * p.t[2] + camera.t[row]));
        low[row] = V::set(-cloud.parts[k].low[row]);
      }
      for (int i = 0; i < cloud.size[k]; i += W) {
        Float at[3], seen[3];
        for (int axis = 0; axis < 3; ++axis) at[axis] = V::add(V::load(cloud.axes[k].at[axis] + i), low[axis]);
        for (int row = 0; row < 3; ++row)
          seen[row] = V::fma(m[row][0], at[0], V::fma(m[row][1], at[1], V::fma(m[row][2], at[2], t[row])));
        // No point comes nearer than 0.5: none is farther than 2 sqrt 3 from the origin.
        const Float inverse = V::divide(one, seen[2]);
        uint32_t u[W], v[W];
        V::store(u, clamp.column(V::multiply(seen[0], inverse)));
        V::store(v, clamp.row(V::multiply(seen[1], inverse)));
        for (int j = 0; j < W && i + j < cloud.size[k]; ++j, ++number) {
          uint32_t& pattern = stamp[number % TRAJECTORIES];
          pattern = xorshift32<Portable>(pattern);
          if (u[j] - u_first < u_count && v[j] - v_first < v_count)
            visit(number / TRAJECTORIES, number % TRAJECTORIES, u[j], v[j], pattern);
        }
      }
    }
  }

  FDSL_MEMBER void paint_bits(const Window& w, const Grid& grid, int, uint64_t* bits) const {
    std::memset(bits, 0, static_cast<size_t>(grid.rows) * grid.stride / 8);
    visit_in_order(w, [&](int, int, uint32_t u, uint32_t v, uint32_t) {
      const int32_t cell = grid.index(u, v);
      bits[cell >> 6] |= uint64_t{1} << (cell & 63);
    });
  }
};

template <class V>
void draw_cloud_picture(const CloudPictureTask& task, void* scratch) {
  const Spec& spec = *task.spec;
  const CloudPicture& it = *task.instance;
  const CloudInstance instance = {it.category, it.number, it.epoch, 0, 0, {}};
  uint64_t* words = static_cast<uint64_t*>(scratch);
  const Cloud<V> cloud(*task.cloud, instance, *task.parameters, words);
  const double half = 0.5 * spec.of;
  const Window w = place_window(spec, it, half, half, half, half);
  draw_window<V>(CloudPainter<V>{spec, it, cloud}, w, spec, it, task.palette, task.out,
                 words + 3 * cloud_room(spec.points) / 2 + 8);
}

}  // namespace fdsl
