// The grid of cells that a picture of points is drawn into, and the way from there to the output: patches and palettes.
#pragma once

#include <cstring>

#include "cpu/engine.h"
#include "shared/grid.h"

namespace fdsl {

template <class V>
void dilate_bits(const uint64_t* bits, uint64_t* to, const Grid& grid, uint32_t neighbours) {
  const int words = grid.stride / 64;
  std::memcpy(to, bits, static_cast<size_t>(grid.rows) * words * 8);
  for_neighbours(neighbours, grid, [&](int down, int right) {
    for (int row = MARGIN; row < grid.rows - MARGIN; ++row) {
      uint64_t* out = to + row * words;
      // The words beside a row are another row's margin, where nothing is hit.
      const uint64_t* in = bits + (row - down) * words;
      if (right == 0)
        for (int i = 0; i < words; ++i) out[i] |= in[i];
      else if (right > 0)
        for (int i = 0; i < words; ++i) out[i] |= in[i] << 1 | in[i - 1] >> 63;
      else
        for (int i = 0; i < words; ++i) out[i] |= in[i] >> 1 | in[i + 1] << 63;
    }
  });
}

// One channel's plane, uint8 (size, size), from the grid's bits.
//
// A batch is larger than the caches and read much later: whole cache lines are written past them, which costs no load
// of what was there before and leaves the bits where they are (a third less time for large batches of 512x512
// pictures). Rows follow each other without a gap, so a line may hold the end of one and the start of the next.
template <class V>
void write_bits(const uint64_t* bits, const Grid& grid, int size, uint8_t value, uint8_t* to) {
  const int words = grid.stride / 64;
  unsigned __int128 line = 0;
  int held = 0, wanted = 64 - static_cast<int>(reinterpret_cast<uintptr_t>(to) % 64);
  const auto write_part = [&](int count) {
    alignas(64) uint8_t part[64];
    V::spread(static_cast<uint64_t>(line), value, part);
    std::memcpy(to, part, count);
  };
  for (int row = MARGIN; row < size + MARGIN; ++row) {
    const uint64_t* in = bits + row * words;
    for (int column = 0; column < size; column += 64, ++in) {
      const int count = size - column < 64 ? size - column : 64;
      uint64_t here = in[0] >> MARGIN | (column + 64 < grid.stride ? in[1] << (64 - MARGIN) : 0);
      if (count < 64) here &= (uint64_t{1} << count) - 1;
      line |= static_cast<unsigned __int128>(here) << held;
      held += count;
      if (held < wanted) continue;
      if (wanted == 64)
        V::stream(static_cast<uint64_t>(line), value, to);
      else
        write_part(wanted);
      line >>= wanted;
      held -= wanted;
      to += wanted;
      wanted = 64;
    }
  }
  write_part(held);
  V::finish_streams();
}

// Likewise of numbers: a cell takes the largest of its own and those that paint it. `to` has room for another grid.
FDSL_INLINE void dilate_numbers(const uint32_t* numbers, uint32_t* to, const Grid& grid, uint32_t neighbours) {
  std::memcpy(to, numbers, static_cast<size_t>(grid.rows) * grid.stride * sizeof *to);
  for_neighbours(neighbours, grid, [&](int down, int right) {
    for (int row = MARGIN; row < grid.rows - MARGIN; ++row) {
      uint32_t* out = to + row * grid.stride;
      const uint32_t* in = numbers + (row - down) * grid.stride - right;
      for (int i = MARGIN; i < grid.stride - MARGIN; ++i) out[i] = in[i] > out[i] ? in[i] : out[i];
    }
  });
}

// Stamps the patch of a point around its cell; its zeros erase.
FDSL_INLINE void stamp_patch(uint8_t* cells, const Grid& grid, int32_t u, int32_t v, uint32_t random, uint8_t value) {
  const uint32_t pattern = stamp_pattern(random);
  uint8_t* centre = cells + grid.index(u, v);
  for (int cell = 0; cell < 9; ++cell)
    centre[(cell / 3 - 1) * grid.down * grid.stride + (cell % 3 - 1) * grid.right] = pattern >> cell & 1 ? value : 0;
}

// Cells of any type through the palette; entry(cell) names the palette's row.
template <class Cell, class Entry>
FDSL_INLINE void write_cells(const Cell* cells, const Grid& grid, int size, const Palette& palette, uint8_t* out,
                             Entry entry) {
  for (int row = 0; row < size; ++row) {
    const Cell* in = cells + (row + MARGIN) * grid.stride + MARGIN;
    for (int column = 0; column < size; ++column) {
      const uint8_t* value = palette.value + entry(in[column]) * palette.channels;
      for (int c = 0; c < palette.channels; ++c) out[(static_cast<size_t>(c) * size + row) * size + column] = value[c];
    }
  }
}

}  // namespace fdsl
