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

constexpr int PIECE = 4;  // pixels of a row that a thread writes at once

template <class Element>
FDSL_INLINE void store_piece(Element* to, int step, int count, const uint32_t (&value)[PIECE]) {
  struct alignas(PIECE * sizeof(Element)) Piece {
    Element element[PIECE];
  };
  if (step == 1 && count == PIECE && reinterpret_cast<uintptr_t>(to) % sizeof(Piece) == 0) {
    Piece piece;
    FDSL_UNROLL
    for (int k = 0; k < PIECE; ++k) piece.element[k] = static_cast<Element>(value[k]);
    *reinterpret_cast<Piece*>(to) = piece;
  } else {
    FDSL_UNROLL
    for (int k = 0; k < PIECE; ++k)
      if (k < count) to[k * step] = static_cast<Element>(value[k]);
  }
}

// Writes a strip of the output: pieces(row, column) gives a word(channel), whose bytes are the rows of the palette that
// the pixels from (row, column) on have there, of those past the picture's edge any row.
template <class Pieces>
FDSL_INLINE void write_pieces(const Block& block, const Task& task, const Strip& strip, void* out, Pieces pieces) {
  const int size = task.spec.size, channels = task.channels, bytes = task.element_bytes;
  const int across = (size + PIECE - 1) / PIECE;
  const int64_t plane = static_cast<int64_t>(size) * size;
  const int step = task.channels_last ? channels : 1;  // from one pixel of a channel to the next
  const uint32_t* const values = task.values;
  block.each([&](int thread) {
    FDSL_ROLLED
    for (int i = thread; i < strip.rows * across; i += THREADS) {
      const int row = strip.first + i / across, column = i % across * PIECE;
      const int count = size - column < PIECE ? size - column : PIECE;
      const auto word = pieces(row, column);
      const int64_t first = plane * channels * strip.picture + (static_cast<int64_t>(row) * size + column) * step;
      FDSL_ROLLED
      for (int c = 0; c < channels; ++c) {
        const int64_t at = first + (step == 1 ? plane * c : c);
        const uint32_t entries = word(c);
        uint32_t value[PIECE];
        FDSL_UNROLL
        for (int k = 0; k < PIECE; ++k) value[k] = values[(entries >> 8 * k & 255u) * channels + c];
        if (bytes == 1)
          store_piece(static_cast<uint8_t*>(out) + at, step, count, value);
        else if (bytes == 2)
          store_piece(static_cast<uint16_t*>(out) + at, step, count, value);
        else
          store_piece(static_cast<uint32_t*>(out) + at, step, count, value);
      }
    }
  });
}

}  // namespace fdsl
