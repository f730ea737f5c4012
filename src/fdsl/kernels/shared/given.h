// Points and polylines that Python has worked out, one by one, and the coordinates of the pixels that a field is asked
// for: what a user's own formula hands over. Placed in double, rounded product by product.
// A GPU thread owns a point or a line; the last one that reaches a pixel wins, which a largest number decides.
#pragma once

#include "camera.h"

namespace fdsl {

// The points of one picture, `dimensions` floats each (2 or 3), from number `first` on; primitives.Points.
struct GivenPoints : Key {
  int64_t first;
  int32_t points, dimensions;
  uint32_t turns;  // of the camera about the vertical, where there are three dimensions
  uint32_t unused;
};

// The polylines of one picture: `lines` from line `first` on; primitives.Polylines.
struct GivenPolylines : Key {
  int64_t first, lines;
};

constexpr int64_t LINE_HUES = 79;  // from line to line, the golden section of a circle: neighbours differ

struct Position {
  double x, y;
};

// Coordinates from `low` to `high` as whole numbers, whose sums no order of summing changes.
struct WholeCoordinates {
  double low, width, scale;

  FDSL_MEMBER WholeCoordinates(float low, float high) : low(low), width(static_cast<double>(high) - this->low) {
    scale = width > 0.0 ? 0x1p32 / width : 0.0;
  }
  FDSL_MEMBER int64_t of(float coordinate) const { return static_cast<int64_t>((coordinate - low) * scale); }
  FDSL_MEMBER float mean(int64_t sum, int32_t count) const {
    return static_cast<float>(low + static_cast<double>(sum) / count * 0x1p-32 * width);
  }
};

// How far points in space reach, and their centre of mass.
FDSL_INLINE Extent extent_of(const float* points, int32_t count) {
  Extent extent = {points[0], points[0], {}};
  for (int64_t i = 0; i < int64_t{3} * count; ++i) {
    extent.low = points[i] < extent.low ? points[i] : extent.low;
    extent.high = points[i] > extent.high ? points[i] : extent.high;
  }
  const WholeCoordinates whole(extent.low, extent.high);
  for (int axis = 0; axis < 3; ++axis) {
    int64_t sum = 0;
    for (int32_t i = 0; i < count; ++i) sum += whole.of(points[int64_t{3} * i + axis]);
    extent.centre[axis] = whole.mean(sum, count);
  }
  return extent;
}

// The window of coordinates that count from the box's first corner: what lies far from zero loses no digits.
FDSL_INLINE Window place_from_corner(const Spec& spec, const Key& it, const Box& box) {
  double sx, sy, shift;
  place_axis(box.x0, box.x1, spec.of, spec.pad, sx, shift);
  place_axis(box.y0, box.y1, spec.of, spec.pad, sy, shift);
  shift = spec.pad + 0x1p-8;
  return place_window(spec, it, sx, sy, shift, shift);
}

// The cell below a coordinate; what is far outside stays there.
FDSL_INLINE int32_t cell_below(double at) {
  const double farthest = 0x1p27, near = at < -farthest ? -farthest : at > farthest ? farthest : at;
  const int32_t cell = static_cast<int32_t>(near);
  return cell - (near < cell);
}

// Where the centre of an output pixel lies in the plane that the window shows.
FDSL_INLINE Position pixel_centre(const Window& w, int32_t size, int32_t row, int32_t column) {
  const Placement& p = w.placement;
  const double u = w.left + (w.mirror ? size - 1 - column : column) + MARGIN + 0.5 - p.t0;
  const double v = w.top + (size - 1 - row) + MARGIN + 0.5 - p.t1;
  const double determinant = p.m00 * p.m11 - p.m01 * p.m10;
  return {(p.m11 * u - p.m01 * v) / determinant, (p.m00 * v - p.m10 * u) / determinant};
}

}  // namespace fdsl
