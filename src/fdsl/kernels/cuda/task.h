// What a kernel is told, and the way from rows of the palette to the output.
#pragma once

#include "cuda/block.h"
#include "shared/grid.h"

namespace fdsl {

// The head of every task; engines/cuda.py packs it and what follows it.
struct Task {
  Spec spec;
  const void* records;     // of the pictures, one each
  const uint32_t* values;  // what the palette's rows become: bit patterns of the output's elements, (rows, channels)
  void* places;            // what a kernel that places pictures leaves to the one that draws them
  uint32_t* scratch;       // numbers of planes that shared memory is too small for, one after the other; or null
  int32_t strips;          // blocks that share a picture
  int32_t strip_rows;      // rows of the output to each; the last may have fewer
  int32_t channels;
  int32_t element_bytes;  // of the output: 1, 2 or 4
  int32_t channels_last;  // (pictures, rows, columns, channels), else (pictures, channels, rows, columns)
  int32_t unused;

  template <class Record>
  FDSL_MEMBER const Record& record(int picture) const {
    return static_cast<const Record*>(records)[picture];
  }
};

// A strip of a picture: rows [first, first + rows) of the output, and what a block keeps of it.
struct Strip {
  int picture, first, rows;

  FDSL_MEMBER Strip(const Block& block, const Task& task) {
    picture = block.number() / task.strips;
    first = block.number() % task.strips * task.strip_rows;
    const int left = task.spec.size - first;
    rows = left < task.strip_rows ? left : task.strip_rows;
  }
};

constexpr int CHUNK = 32;  // columns of a row that one thread writes

// Rows of the palette of a chunk's pixels, where the palette has two: a bit each.
struct TwoValued {
  uint32_t bits;
};

// Elements that are written together.
template <class Element>
struct alignas(16) Piece {
  static constexpr int COUNT = 16 / sizeof(Element);
  Element element[COUNT];
};

template <class Element>
FDSL_INLINE void fill(Piece<Element>& piece, const TwoValued& entry, int first, const uint32_t* values, int channels) {
  const uint32_t bits = entry.bits >> first, ground = values[0], drawn = values[channels];
  if constexpr (sizeof(Element) == 1) {
    const uint32_t grounds = ground * 0x01010101u, change = (ground ^ drawn) * 0x01010101u;
    uint32_t words[4];
    FDSL_UNROLL
    for (int k = 0; k < 4; ++k)  // four bits to four bytes
      words[k] = grounds ^ (((bits >> 4 * k & 15u) * 0x00204081u & 0x01010101u) * 255u & change);
    copy_bytes<sizeof piece>(&piece, words);
  } else {
    FDSL_UNROLL
    for (int k = 0; k < piece.COUNT; ++k) piece.element[k] = static_cast<Element>(bits >> k & 1u ? drawn : ground);
  }
}

template <class Element, class Entry>
FDSL_INLINE void fill(Piece<Element>& piece, const Entry& entry, int first, const uint32_t* values, int channels) {
  FDSL_UNROLL
  for (int k = 0; k < piece.COUNT; ++k) piece.element[k] = static_cast<Element>(values[entry(first + k) * channels]);
}

template <class Element, class Entries>
FDSL_INLINE void write_strip(const Block& block, const Task& task, const Strip& strip, Element* out, Entries entries) {
  const int size = task.spec.size, channels = task.channels, chunks = (size + CHUNK - 1) / CHUNK;
  const int64_t plane = static_cast<int64_t>(size) * size;
  const int step = task.channels_last ? channels : 1;  // from one pixel of a channel to the next
  out += plane * channels * strip.picture;
  block.each([&](int thread) {
    for (int i = thread; i < strip.rows * chunks; i += THREADS) {
      const int row = strip.first + i / chunks, column = i % chunks * CHUNK;
      const int count = size - column < CHUNK ? size - column : CHUNK;
      const auto entry = entries(row, column);
      for (int c = 0; c < channels; ++c) {
        Element* to = out + (step == 1 ? plane * c : c) + (static_cast<int64_t>(row) * size + column) * step;
        for (int first = 0; first < count; first += Piece<Element>::COUNT, to += Piece<Element>::COUNT * step) {
          Piece<Element> piece;
          fill(piece, entry, first, task.values + c, channels);
          if (step == 1 && count - first >= piece.COUNT && reinterpret_cast<uintptr_t>(to) % sizeof piece == 0) {
            *reinterpret_cast<Piece<Element>*>(to) = piece;
          } else {
            FDSL_UNROLL
            for (int k = 0; k < piece.COUNT; ++k)
              if (first + k < count) to[k * step] = piece.element[k];
          }
        }
      }
    }
  });
}

// Writes a strip of the output, whatever its elements: entries(row, column) gives a TwoValued, or an entry(k), which
// gives the row of the palette that the pixel at (row, column + k) has, or any row where k is past the picture's edge.
// Bound by the memory that it writes.
template <class Entries>
FDSL_INLINE void write_strip(const Block& block, const Task& task, const Strip& strip, void* out, Entries entries) {
  if (task.element_bytes == 1)
    write_strip(block, task, strip, static_cast<uint8_t*>(out), entries);
  else if (task.element_bytes == 2)
    write_strip(block, task, strip, static_cast<uint16_t*>(out), entries);
  else
    write_strip(block, task, strip, static_cast<uint32_t*>(out), entries);
}

}  // namespace fdsl
