// A canvas: a byte for each pixel of a strip, the row of the palette that it has, drawn into by plain stores.
#pragma once

#include "cuda/task.h"
#include "shared/lines.h"

namespace fdsl {

FDSL_INLINE int canvas_stride(int size) { return (size + PIECE - 1) / PIECE * PIECE; }

// Shows the pixels of `clip`, mirrored or not. Threads that draw at once draw one value: any of them may be the last.
struct Canvas {
  uint8_t* cells;
  Clip clip;
  int32_t stride, origin, right;  // the cell of a pixel is origin + y * stride + x * right

  FDSL_MEMBER Canvas(uint8_t* cells, const Clip& clip, bool mirror)
      : cells(cells), clip(clip), stride(canvas_stride(clip.x1 - clip.x0)), right(mirror ? -1 : 1) {
    origin = (mirror ? clip.x1 - 1 : -clip.x0) - clip.y0 * stride;
  }
  FDSL_MEMBER bool shows(int32_t x, int32_t y) const {
    return x >= clip.x0 && x < clip.x1 && y >= clip.y0 && y < clip.y1;
  }
  FDSL_MEMBER void put(int32_t x, int32_t y, uint8_t value) const { cells[origin + y * stride + x * right] = value; }

  // A line between two pixels, as draw_line has it. What lies inside as a whole walks from cell to cell.
  FDSL_MEMBER void draw(int32_t x0, int32_t y0, int32_t x1, int32_t y1, uint8_t value) const {
    if ((x0 < clip.x0 && x1 < clip.x0) || (x0 >= clip.x1 && x1 >= clip.x1) || (y0 < clip.y0 && y1 < clip.y0) ||
        (y0 >= clip.y1 && y1 >= clip.y1))
      return;
    if (!shows(x0, y0) || !shows(x1, y1)) {
      draw_line(x0, y0, x1, y1, clip, [&](int32_t x, int32_t y) { put(x, y, value); });
      return;
    }
    const Line line(x0, y0, x1, y1);
    const int32_t across = line.sign_x * right, along = line.sign_y * stride;
    const int32_t straight = line.steep ? along : across, aside = across + along;
    int32_t cell = origin + y0 * stride + x0 * right, remainder = -line.major;  // less 2 major
    for (int32_t left = line.major; left >= 0; --left) {
      cells[cell] = value;
      remainder += 2 * line.minor;
      cell += remainder < 0 ? straight : aside;
      remainder -= remainder < 0 ? 0 : 2 * line.major;
    }
  }
};

// A strip's cells, all of them of the ground: behind what a block keeps besides, or in the memory outside.
FDSL_INLINE uint8_t* clear_canvas(const Block& block, const Task& task, const Strip& strip, void* behind) {
  const int words = canvas_stride(task.spec.size) / PIECE;
  uint32_t* const cells = task.scratch ? task.scratch + static_cast<int64_t>(block.number()) * task.strip_rows * words
                                       : static_cast<uint32_t*>(behind);
  block.each([&](int thread) {
    for (int i = thread; i < strip.rows * words; i += THREADS) cells[i] = 0;
  });
  return reinterpret_cast<uint8_t*>(cells);
}

FDSL_INLINE void write_canvas(const Block& block, const Task& task, const Strip& strip, const uint8_t* cells,
                              void* out) {
  const int stride = canvas_stride(task.spec.size);
  write_pieces(block, task, strip, out, [&](int row, int column) {
    const uint32_t entries =
        *reinterpret_cast<const uint32_t*>(cells + static_cast<int64_t>(row - strip.first) * stride + column);
    return [=](int) { return entries; };
  });
}

}  // namespace fdsl
