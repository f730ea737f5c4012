// Batches of radial contours.
#pragma once

#include "cpu/engine.h"
#include "shared/contours.h"

namespace fdsl {

constexpr int WIDEST = 16;              // lanes of any type
constexpr size_t FEW_PIXELS = 1 << 10;  // of a list, before it is drawn

// One picture to draw, and where the pixels go (channels, size, size).
struct ContourTask {
  const Spec* spec;
  const ContourInstance* instance;
  Palette palette;
  uint8_t* out;
};

// How a thread's scratch is used, in words of four bytes: a canvas of bytes, the vertices, a list of pixels.
struct ContourScratch {
  size_t canvas, vertex_row, list, words;

  FDSL_MEMBER ContourScratch(int size, int vertices)
      : canvas((static_cast<size_t>(size) * size + 63) / 64 * 16),
        vertex_row((static_cast<size_t>(vertices) + 2 * WIDEST) / WIDEST * WIDEST),
        list(canvas + VERTEX_ROWS * vertex_row),
        words(list + FEW_PIXELS + WIDEST * (static_cast<size_t>(size) + 1)) {}
  static constexpr int VERTEX_ROWS = 9;
};

void draw_contour_batch(const Kernel& kernel, const ContourInstance* instances, const Batch& batch);

}  // namespace fdsl
