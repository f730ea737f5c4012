// What a block keeps of a strip while it draws: a bit, or a number, for each cell. Cells are the strip's pixels with
// MARGIN cells around them, into which patches and what lies beside the strip may reach.
#pragma once

#include "cuda/task.h"

namespace fdsl {

// How a cell (u, v) of the formula's plane lies in a strip, and which cells are wanted: those of the window's rectangle
// that are seen, or whose patch is.
struct Place {
  uint32_t u_first, u_count, v_first, v_count;
  Grid grid;  // whose index counts from the strip's first cell

  Place() = default;
  // `stride`: cells of a row.
  FDSL_MEMBER Place(const Window& w, const Key& it, const Strip& strip, int size, int stride)
      : grid(w, it, size, stride) {
    grid.origin -= strip.first * stride;
    // Rows of the grid from first + MARGIN - 1 on, and the two beside the strip.
    const int32_t low = strip.first + MARGIN - 1, high = strip.first + strip.rows + MARGIN + 1;
    const bool turned = it.flip & 1u;
    int32_t v0 = turned ? w.top + low : grid.rows + w.top - high, v1 = turned ? w.top + high : grid.rows + w.top - low;
    v0 = v0 < w.v0 + MARGIN ? w.v0 + MARGIN : v0;
    v1 = v1 > w.v1 + MARGIN ? w.v1 + MARGIN : v1;
    u_first = w.u0 + MARGIN;
    u_count = w.u1 > w.u0 ? w.u1 - w.u0 : 0;
    v_first = v0;
    v_count = v1 > v0 ? v1 - v0 : 0;
  }
  FDSL_MEMBER bool wanted(uint32_t u, uint32_t v) const { return u - u_first < u_count && v - v_first < v_count; }
};

FDSL_INLINE int bit_stride(int size) { return (size + 2 * MARGIN + 31) / 32 * 32; }
FDSL_INLINE int number_stride(int size) { return size + 2 * MARGIN; }
FDSL_INLINE int cells_of(const Strip& strip, int stride) { return (strip.rows + 2 * MARGIN) * stride; }

FDSL_INLINE void clear(const Block& block, uint32_t* words, int count) {
  block.each([&](int thread) {
    for (int i = thread; i < count; i += THREADS) words[i] = 0;
  });
}

FDSL_INLINE void hit(uint32_t* bits, int32_t cell) { atomic_or(&bits[cell >> 5], 1u << (cell & 31)); }

// The output of a plane of bits; `neighbours` of each hit cell are painted too.
FDSL_INLINE void write_bits(const Block& block, const Task& task, const Strip& strip, const uint32_t* bits,
                            const Grid& grid, uint32_t neighbours, void* out) {
  const int words = grid.stride / 32;
  write_strip(block, task, strip, out, [&](int row, int column) {
    const uint32_t* here = bits + (row - strip.first + MARGIN) * words + column / 32;
    const bool last = column / 32 + 1 == words;
    const auto chunk = [&](int down, int right) {
      const uint32_t* at = here - down * words;
      return funnel(at[0], last ? 0u : at[1], MARGIN - right);
    };
    uint32_t painted = chunk(0, 0);
    for_neighbours(neighbours, grid, [&](int down, int right) { painted |= chunk(down, right); });
    return TwoValued{painted};
  });
}

// Likewise of a plane of numbers: the largest of a cell's own and of those that paint it; entry(number) is the row of
// the palette.
template <class Entry>
FDSL_INLINE void write_numbers(const Block& block, const Task& task, const Strip& strip, const uint32_t* numbers,
                               const Grid& grid, uint32_t neighbours, void* out, Entry entry) {
  const int size = task.spec.size;
  write_strip(block, task, strip, out, [&](int row, int column) {
    const uint32_t* here = numbers + (row - strip.first + MARGIN) * grid.stride + column + MARGIN;
    return [=](int k) {
      if (column + k >= size) return 0u;
      uint32_t most = here[k];
      for_neighbours(neighbours, grid, [&](int down, int right) {
        const uint32_t other = here[k - down * grid.stride - right];
        most = other > most ? other : most;
      });
      return static_cast<uint32_t>(entry(most));
    };
  });
}

// Numbers that say which point of a picture reached a cell last: 1 + its number, twice, and whether it paints or
// erases.
FDSL_INLINE void stamp(uint32_t* numbers, const Grid& grid, int32_t cell, uint32_t random, uint32_t point) {
  const uint32_t pattern = stamp_pattern(random);
  for (int k = 0; k < 9; ++k)
    atomic_max(&numbers[cell + (k / 3 - 1) * grid.down * grid.stride + (k % 3 - 1) * grid.right],
               2 * (point + 1) + (pattern >> k & 1u));
}

// What the numbers of a picture's cells mean: rows of the palette. Point i is of step i / 256.
struct NumberEntry {
  Color color;
  bool stamped;

  FDSL_MEMBER uint32_t operator()(uint32_t number) const {
    if (color == COLOR_DENSITY) return number < DENSITY_LEVELS ? number : DENSITY_LEVELS - 1;
    if (stamped && !(number & 1u)) return 0;
    const uint32_t last = stamped ? number >> 1 : number;  // 1 + a point's number
    if (color != COLOR_COLOR) return last > 0;
    return last ? 1 + (last - 1) / THREADS % HUES : 0;
  }
};

}  // namespace fdsl
