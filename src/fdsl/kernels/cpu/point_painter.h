// Drawing one picture of an iterated function system on one CPU thread, over any lane type and in the plane or in
// space. Each instruction set compiles this in its own file.
//
// What bounds it: a picture of two values is drawn into bits, because 512x512 bits fit the first-level cache and
// bytes do not; then the two vector ports and the one store per point are about even.
//
// A model of the formula (affine_painter.h, spatial_painter.h) gives:
//   Instance, System, Maps, Trajectories: of shared/*_ifs.h
//   window(seeds): where the fit puts the picture; asked first
//   placed(window): the system whose points `seen` takes to cells
//   seen(trajectories): x and y of a point in the coordinates of cells
#pragma once

#include "cpu/affine.h"
#include "cpu/grid.h"

namespace fdsl {

// Walks all trajectories past their burn-in: calls each(t) for every step of a register of trajectories that all take,
// and at their ends last(t, first, active): of those from `first` on, `active` have just taken one step more.
//
// after(trajectories) says, with so many done, whether to go on; GROUPS registers go side by side.
template <class V, int GROUPS, class Trajectories, class Maps, class System, class Each, class Last, class After>
FDSL_INLINE void walk(const System& system, const uint32_t* seeds, int points, Each each, Last last, After after) {
  constexpr int W = V::WIDTH;
  const Maps maps(system);
  const int full = points / TRAJECTORIES, rest = points % TRAJECTORIES;
  for (int base = 0; base < TRAJECTORIES; base += W * GROUPS) {
    if (!after(base)) return;
    Trajectories t[GROUPS];
    for (int g = 0; g < GROUPS; ++g) t[g].begin(system, seeds + base + g * W);
    for (int s = 0; s < BURN_IN; ++s)
      for (int g = 0; g < GROUPS; ++g) t[g].step(maps);
    for (int s = 0; s < full; ++s)
      for (int g = 0; g < GROUPS; ++g) {
        t[g].step(maps);
        each(t[g], g);
      }
    for (int g = 0; g < GROUPS; ++g) {
      const int first = base + g * W, active = rest - first < 0 ? 0 : rest - first < W ? rest - first : W;
      if (active > 0) t[g].step(maps);
      last(t[g], g, first, active);
    }
  }
}

// Cells of points, clamped to the ring around the window's rectangle; a NaN goes there too.
template <class V>
struct Clamp {
  typename V::Float u0, u1, v0, v1;

  explicit FDSL_MEMBER Clamp(const Window& w)
      : u0(V::set(static_cast<float>(w.u0 + MARGIN - 1))),
        u1(V::set(static_cast<float>(w.u1 + MARGIN))),
        v0(V::set(static_cast<float>(w.v0 + MARGIN - 1))),
        v1(V::set(static_cast<float>(w.v1 + MARGIN))) {}
  FDSL_MEMBER typename V::Int column(typename V::Float x) const {
    return V::truncate(V::minimum(V::maximum(x, u0), u1));
  }
  FDSL_MEMBER typename V::Int row(typename V::Float y) const { return V::truncate(V::minimum(V::maximum(y, v0), v1)); }
};

template <class V, class Model>
struct Painter {
  using Float = typename V::Float;
  using Int = typename V::Int;
  using System = typename Model::System;
  using Maps = typename Model::Maps;
  using Trajectories = typename Model::Trajectories;
  static constexpr int W = V::WIDTH, G = V::GROUPS, CHUNK = W * G;

  const Spec& spec;
  Model model;
  uint32_t seeds[TRAJECTORIES], stamp_seeds[TRAJECTORIES];

  explicit FDSL_MEMBER Painter(const PointTask<typename Model::Instance>& task) : spec(*task.spec), model(task) {
    const Key& it = *task.instance;
    for (uint32_t j = 0; j < TRAJECTORIES; j += W) {
      Int word[4];
      keyed_words<V>(spec.seed, it.category, it.number, it.epoch, PURPOSE_TRAJECTORY, 0, j, word);
      V::store(seeds + j, word[0]);
      V::store(stamp_seeds + j, word[1]);
    }
    for (uint32_t& seed : seeds) seed = nonzero(seed);
    for (uint32_t& seed : stamp_seeds) seed = nonzero(seed);
  }

  // The hit pixels, one bit each; the grid's stride is a multiple of 64. What `bits` holds comes after it in memory.
  //
  // A small grid is hit as bytes and packed: a byte takes one store, a bit a load too. A larger one leaves the
  // first-level cache as bytes, and does not as bits.
  void paint_bits(const Window& w, const Grid& grid, int points, uint64_t* bits) const {
    const size_t cells = static_cast<size_t>(grid.rows) * grid.stride;
    if (w.u0 >= w.u1 || w.v0 >= w.v1) {
      std::memset(bits, 0, cells / 8);
      return;
    }
    if (cells <= LARGEST_BYTE_GRID) {
      uint8_t* bytes = reinterpret_cast<uint8_t*>(bits + cells / 64);
      std::memset(bytes, 0, cells);
      hit_cells<true>(w, grid, points, [=](uint32_t i) __attribute__((always_inline)) { bytes[i] = 1; });
      for (size_t i = 0; i < cells / 64; ++i) bits[i] = V::gather(bytes + 64 * i);
    } else {
      std::memset(bits, 0, cells / 8);
      hit_cells<false>(w, grid, points,
                       [=](uint32_t i) __attribute__((always_inline)) { bits[i >> 6] |= uint64_t{1} << (i & 63); });
    }
    bits[0] &= ~uint64_t{1};  // cell 0, which an empty buffer hits
    wipe_ring(w, grid, [=](int32_t i) { bits[i >> 6] &= ~(uint64_t{1} << (i & 63)); });
  }

  // Calls hit(index) for the cell of each point. Order does not matter, so trajectories go in chunks.
  template <bool UNROLLED, class Hit>
  FDSL_MEMBER void hit_cells(const Window& w, const Grid& grid, int points, Hit hit) const {
    const System placed = model.placed(w);
    const Maps maps(placed);
    const Clamp<V> clamp(w);
    const Int row_factor = V::set(grid.row_factor), column_xor = V::set(grid.column_xor);
    const Int origin = V::set(grid.origin);
    const auto cell = [&](const Trajectories& t) __attribute__((always_inline)) {
      const auto at = Model::seen(t);
      const Int column = V::bit_xor(clamp.column(at.x), column_xor);
      return V::add(V::add(V::multiply(clamp.row(at.y), row_factor), column), origin);
    };
    const auto advance = [&](Trajectories& t, uint32_t* now, const uint32_t* before) __attribute__((always_inline)) {
      t.step(maps);
      V::store(now, cell(t));
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) hit(before[i]);
    };
    const int full = points / TRAJECTORIES, rest = points % TRAJECTORIES;
    // Indices are read back one step after they were written, so that no load waits for its store. Cell 0 is margin.
    alignas(64) uint32_t index[2][CHUNK] = {};
    int turn = 0;
    for (int base = 0; base < TRAJECTORIES; base += CHUNK) {
      Trajectories t[G];
      for (int g = 0; g < G; ++g) t[g].begin(placed, seeds + base + g * W);
      for (int s = 0; s < BURN_IN; ++s)
        for (int g = 0; g < G; ++g) t[g].step(maps);
      for (int s = 0; s < full; ++s) {
        uint32_t* now = index[turn];
        turn ^= 1;
        const uint32_t* before = index[turn];
        // Said, because GCC unrolls it for some models only: four groups of short hits run 10 % faster so, and more of
        // them, or longer ones, slower, for they leave the cache of decoded instructions.
        if constexpr (UNROLLED && G <= 4) {
#pragma GCC unroll 4
          for (int g = 0; g < G; ++g) advance(t[g], now + g * W, before + g * W);
        } else {
          for (int g = 0; g < G; ++g) advance(t[g], now + g * W, before + g * W);
        }
      }
      for (int g = 0; g < G; ++g) {
        const int active = rest - (base + g * W);
        if (active <= 0) break;
        t[g].step(maps);
        uint32_t last[W];
        V::store(last, cell(t[g]));
        for (int i = 0; i < W && i < active; ++i) hit(last[i]);
      }
    }
    for (uint32_t i : index[turn ^ 1]) hit(i);
  }

  // Calls erase(index) for each cell of the ring around the window's rectangle.
  template <class Erase>
  static FDSL_MEMBER void wipe_ring(const Window& w, const Grid& grid, Erase erase) {
    for (int32_t u = w.u0 + MARGIN - 1; u <= w.u1 + MARGIN; ++u) {
      erase(grid.index(u, w.v0 + MARGIN - 1));
      erase(grid.index(u, w.v1 + MARGIN));
    }
    for (int32_t v = w.v0 + MARGIN - 1; v <= w.v1 + MARGIN; ++v) {
      erase(grid.index(w.u0 + MARGIN - 1, v));
      erase(grid.index(w.u1 + MARGIN, v));
    }
  }

  // Steps all trajectories together and calls visit(t, j, u, v, stamp) for every point inside the window's rectangle,
  // in the order of the keys t * 256 + j: for drawings in which the last point wins, or all count.
  template <class Visit>
  FDSL_MEMBER void visit_in_order(const Window& w, Visit visit) const {
    if (w.u0 >= w.u1 || w.v0 >= w.v1) return;
    const System placed = model.placed(w);
    const Maps maps(placed);
    const Clamp<V> clamp(w);
    constexpr int N = TRAJECTORIES / W;
    Trajectories t[N];
    Int stamp[N];
    for (int g = 0; g < N; ++g) {
      t[g].begin(placed, seeds + g * W);
      stamp[g] = V::load(stamp_seeds + g * W);
      for (int s = 0; s < BURN_IN; ++s) t[g].step(maps);
    }
    const uint32_t u_low = w.u0 + MARGIN, u_count = w.u1 - w.u0, v_low = w.v0 + MARGIN, v_count = w.v1 - w.v0;
    const int steps = (spec.points + TRAJECTORIES - 1) / TRAJECTORIES;
    for (int s = 0; s < steps; ++s) {
      alignas(64) uint32_t u[TRAJECTORIES], v[TRAJECTORIES], pattern[TRAJECTORIES];
      for (int g = 0; g < N; ++g) {
        t[g].step(maps);
        const auto at = Model::seen(t[g]);
        V::store(u + g * W, clamp.column(at.x));
        V::store(v + g * W, clamp.row(at.y));
        stamp[g] = xorshift32<V>(stamp[g]);
        V::store(pattern + g * W, stamp[g]);
      }
      const int left = spec.points - s * TRAJECTORIES, active = left < TRAJECTORIES ? left : TRAJECTORIES;
      for (int j = 0; j < active; ++j)
        if (u[j] - u_low < u_count && v[j] - v_low < v_count) visit(s, j, u[j], v[j], pattern[j]);
    }
  }
};

// The picture of a window: `painter` has paint_bits and visit_in_order.
template <class V, class Painter>
void draw_window(const Painter& painter, const Window& w, const Spec& spec, const Key& it, const Palette& palette,
                 uint8_t* out, void* scratch) {
  const int side = spec.size + 2 * MARGIN, bit_stride = (side + 63) / 64 * 64;
  const bool bits_only = spec.color == COLOR_GRAY && spec.draw != DRAW_PATCH_PER_POINT;
  const Grid grid(w, it, spec.size, bits_only ? bit_stride : side);
  const size_t cells = static_cast<size_t>(grid.rows) * grid.stride;

  if (bits_only) {
    // A word before and after each plane, for the dilation's shifts.
    uint64_t* bits = static_cast<uint64_t*>(scratch) + 8;
    painter.paint_bits(w, grid, spec.points, bits);
    if (spec.draw == DRAW_PATCH) {
      uint64_t* grown = bits + cells / 64 + 8;
      dilate_bits<V>(bits, grown, grid, it.neighbours);
      bits = grown;
    }
    for (int c = 0; c < palette.channels; ++c)
      write_bits<V>(bits, grid, spec.size, palette.value[palette.channels + c],
                    out + static_cast<size_t>(c) * spec.size * spec.size);
    return;
  }
  if (spec.draw == DRAW_PATCH_PER_POINT) {
    uint8_t* stamped = static_cast<uint8_t*>(scratch);
    std::memset(stamped, 0, cells);
    const bool colored = spec.color == COLOR_COLOR;
    painter.visit_in_order(w, [&](int step, int, uint32_t u, uint32_t v, uint32_t r) __attribute__((always_inline)) {
      stamp_patch(stamped, grid, u, v, r, colored ? 1 + step % HUES : 1);
    });
    write_cells(stamped, grid, spec.size, palette, out, [](uint8_t cell) { return cell; });
    return;
  }
  // A number per pixel: the largest key that reached it, or the count of points.
  uint32_t* numbers = static_cast<uint32_t*>(scratch);
  std::memset(numbers, 0, cells * sizeof *numbers);
  if (spec.color == COLOR_COLOR)
    painter.visit_in_order(w, [&](int step, int j, uint32_t u, uint32_t v, uint32_t) __attribute__((always_inline)) {
      numbers[grid.index(u, v)] = step * TRAJECTORIES + j + 1;
    });
  else
    painter.visit_in_order(w, [&](int, int, uint32_t u, uint32_t v, uint32_t)
                                  __attribute__((always_inline)) { ++numbers[grid.index(u, v)]; });
  if (spec.draw == DRAW_PATCH) {
    uint32_t* grown = numbers + cells;
    dilate_numbers(numbers, grown, grid, it.neighbours);
    numbers = grown;
  }
  if (spec.color == COLOR_COLOR)
    write_cells(numbers, grid, spec.size, palette, out,
                [](uint32_t key) { return key ? 1 + (key - 1) / TRAJECTORIES % HUES : 0; });
  else
    write_cells(numbers, grid, spec.size, palette, out,
                [](uint32_t count) { return count < DENSITY_LEVELS ? count : DENSITY_LEVELS - 1; });
}

template <class V, class Model>
void draw_points(const PointTask<typename Model::Instance>& task, void* scratch) {
  Painter<V, Model> painter(task);
  const Window w = painter.model.window(painter.seeds);
  draw_window<V>(painter, w, *task.spec, *task.instance, task.palette, task.out, scratch);
}

}  // namespace fdsl
