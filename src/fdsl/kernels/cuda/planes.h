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

constexpr int CHUNK = 32;  // columns of a row of bits that one thread writes

// Elements that are written together.
template <class Element>
struct alignas(16) Elements {
  static constexpr int COUNT = 16 / sizeof(Element);
  Element element[COUNT];
};

// A drawn pixel's value for each bit that is set, else the ground's.
template <class Element>
FDSL_INLINE void fill(Elements<Element>& to, uint32_t bits, uint32_t ground, uint32_t drawn) {
  if constexpr (sizeof(Element) == 1) {
    const uint32_t grounds = ground * 0x01010101u, change = (ground ^ drawn) * 0x01010101u;
    uint32_t words[4];
    FDSL_UNROLL
    for (int k = 0; k < 4; ++k)  // four bits to four bytes
      words[k] = grounds ^ (((bits >> 4 * k & 15u) * 0x00204081u & 0x01010101u) * 255u & change);
    copy_bytes<sizeof to>(&to, words);
  } else {
    FDSL_UNROLL
    for (int k = 0; k < to.COUNT; ++k) to.element[k] = static_cast<Element>(bits >> k & 1u ? drawn : ground);
  }
}

template <class Element>
FDSL_INLINE void store_bits(Element* to, int step, int count, uint32_t bits, uint32_t ground, uint32_t drawn) {
  constexpr int COUNT = Elements<Element>::COUNT;
  FDSL_ROLLED
  for (int first = 0; first < count; first += COUNT, to += COUNT * step, bits >>= COUNT % 32) {
    if (step == 1 && count - first >= COUNT && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
      Elements<Element> elements;
      fill(elements, bits, ground, drawn);
      *reinterpret_cast<Elements<Element>*>(to) = elements;
    } else {
      FDSL_ROLLED
      for (int k = 0; k < COUNT && first + k < count; ++k)
        to[k * step] = static_cast<Element>(bits >> k & 1u ? drawn : ground);
    }
  }
}

// The output of a plane of bits; `neighbours` of each hit cell are painted too. Bound by the memory that it writes.
FDSL_INLINE void write_bits(const Block& block, const Task& task, const Strip& strip, const uint32_t* bits,
                            const Grid& grid, uint32_t neighbours, void* out) {
  const int size = task.spec.size, channels = task.channels, chunks = (size + CHUNK - 1) / CHUNK;
  const int words = grid.stride / 32;
  const int64_t plane = static_cast<int64_t>(size) * size;
  const int step = task.channels_last ? channels : 1;  // from one pixel of a channel to the next
  block.each([&](int thread) {
    FDSL_ROLLED
    for (int i = thread; i < strip.rows * chunks; i += THREADS) {
      const int row = i / chunks, word = i % chunks, column = word * CHUNK;
      const uint32_t* const here = bits + (row + MARGIN) * words + word;
      const bool last = word + 1 == words;
      const auto chunk = [&](int down, int right) {
        const uint32_t* at = here - down * words;
        return funnel(at[0], last ? 0u : at[1], MARGIN - right);
      };
      uint32_t painted = chunk(0, 0);
      for_neighbours(neighbours, grid, [&](int down, int right) { painted |= chunk(down, right); });
      const int count = size - column < CHUNK ? size - column : CHUNK;
      const int64_t first =
          plane * channels * strip.picture + (static_cast<int64_t>(strip.first + row) * size + column) * step;
      FDSL_ROLLED
      for (int c = 0; c < channels; ++c) {
        const int64_t at = first + (step == 1 ? plane * c : c);
        const uint32_t ground = task.values[c], drawn = task.values[channels + c];
        if (task.element_bytes == 1)
          store_bits(static_cast<uint8_t*>(out) + at, step, count, painted, ground, drawn);
        else if (task.element_bytes == 2)
          store_bits(static_cast<uint16_t*>(out) + at, step, count, painted, ground, drawn);
        else
          store_bits(static_cast<uint32_t*>(out) + at, step, count, painted, ground, drawn);
      }
    }
  });
}

// Likewise of a plane of numbers: entry(the largest of a cell's own and of those that paint it) is the row of the
// palette.
template <class Entry>
FDSL_INLINE void write_numbers(const Block& block, const Task& task, const Strip& strip, const uint32_t* numbers,
                               const Grid& grid, uint32_t neighbours, void* out, Entry entry) {
  write_pieces(block, task, strip, out, [=](int row, int column) {
    const uint32_t* const here = numbers + (row - strip.first + MARGIN) * grid.stride + column + MARGIN;
    const int last = task.spec.size - 1 - column;
    uint32_t most[PIECE], word = 0;
    FDSL_UNROLL
    for (int k = 0; k < PIECE; ++k) most[k] = here[k < last ? k : last];
    for_neighbours(neighbours, grid, [&](int down, int right) {
      const uint32_t* const other = here - down * grid.stride - right;
      FDSL_UNROLL
      for (int k = 0; k < PIECE; ++k)
        most[k] = other[k < last ? k : last] > most[k] ? other[k < last ? k : last] : most[k];
    });
    FDSL_UNROLL
    for (int k = 0; k < PIECE; ++k) word |= static_cast<uint32_t>(entry(most[k])) << 8 * k;
    return [word](int) { return word; };
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
