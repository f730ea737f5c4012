// The output's orientation: how a cell of the formula's plane becomes a pixel, and what a patch paints around it.
#pragma once

#include "picture.h"

namespace fdsl {

constexpr uint32_t HUES = 128;            // period of the colour along a trajectory
constexpr uint32_t DENSITY_LEVELS = 256;  // counts from here on look alike

// The grid is the output with MARGIN cells around it: margin, then the output, then margin, in both directions.
struct Grid {
  int32_t row_factor, column_xor, origin;  // index = v * row_factor + (u ^ column_xor) + origin
  int32_t down, right;                     // +1, or -1 where the output is mirrored
  int32_t rows, stride;

  Grid() = default;
  FDSL_MEMBER Grid(const Window& w, const Key& it, int size, int row_stride)
      : rows(size + 2 * MARGIN), stride(row_stride) {
    const bool turned = it.flip & 1u;  // as published, row 0 of the plain picture is the highest y
    down = turned ? -1 : 1;
    right = w.mirror ? -1 : 1;
    row_factor = turned ? stride : -stride;
    origin = turned ? -w.top * stride : (rows - 1 + w.top) * stride;
    column_xor = w.mirror ? -1 : 0;
    origin += w.mirror ? rows + w.left : -w.left;
  }
  FDSL_MEMBER int32_t index(int32_t u, int32_t v) const { return v * row_factor + (u ^ column_xor) + origin; }
};

// Calls use(row offset, column offset) for the cells that a patch paints, beside its centre, as the output sees them.
template <class Use>
FDSL_INLINE void for_neighbours(uint32_t neighbours, const Grid& grid, Use use) {
  for (int k = 0; k < 8; ++k) {
    const int cell = k < 4 ? k : k + 1;
    if (neighbours >> k & 1u) use((cell / 3 - 1) * grid.down, (cell % 3 - 1) * grid.right);
  }
}

// A point's own patch: nine random bits, not all zero, row by row around its cell.
FDSL_INLINE uint32_t stamp_pattern(uint32_t random) { return 1 + ((random >> 16) * 511 >> 16); }

}  // namespace fdsl
