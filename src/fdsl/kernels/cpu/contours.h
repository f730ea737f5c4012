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

// A thread's scratch, in words of four bytes: a canvas of bytes, rows of what the vertices are, a list of pixels.
struct ContourScratch {
  static constexpr size_t ROWS = 9;
  size_t canvas, row, list;

  // Vertices are read in whole registers, from the second one on too.
  FDSL_MEMBER ContourScratch(int size, int vertices)
      : canvas((static_cast<size_t>(size) * size + 3) / 4),
        row(static_cast<size_t>(vertices) + 2 * WIDEST),
        list(FEW_PIXELS + WIDEST * (static_cast<size_t>(size) + 1)) {}
  FDSL_MEMBER size_t words() const { return canvas + ROWS * row + list; }
};

void draw_contours_batch(const Kernel& kernel, const ContourInstance* instances, const Batch& batch);

}  // namespace fdsl
