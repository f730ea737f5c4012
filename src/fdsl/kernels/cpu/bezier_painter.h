// Drawing one picture of Bezier curves on one CPU thread, over any lane type.
//
// What bounds it: the lines, piece by piece; a piece is a few pixels long at most, so that setting it up costs more
// than its pixels. Points and weights stay in the first-level cache.
#pragma once

#include <cstring>

#include "cpu/bezier.h"
#include "shared/lines.h"

namespace fdsl {

template <class V>
void draw_bezier(const BezierTask& task) {
  const Spec& spec = *task.spec;
  const int size = spec.size, count = task.control_points, points = bezier_points(count);
  const int channels = task.palette.channels;
  const size_t plane = static_cast<size_t>(size) * size;
  const Window w = place_window(spec, *task.instance, spec.of, spec.of, 0.0, 0.0);
  const int32_t left = w.left + MARGIN, top = w.top + MARGIN;
  const Clip clip = {left, top, left + size, top + size};
  std::memset(task.out, 0, plane * channels);
  for (int curve = 0; curve < task.curves; ++curve) {
    float x[MAX_CONTROL_POINTS], y[MAX_CONTROL_POINTS];
    control_points_of(spec, *task.instance, curve, count, x, y);
    uint32_t u[bezier_points(MAX_CONTROL_POINTS)], v[bezier_points(MAX_CONTROL_POINTS)];
    for (int i = 0; i < points; i += V::WIDTH)
      bezier_cells<V>(x, y, count, task.weights + i, points, w.placement, u + i, v + i);
    const int entry = spec.color == COLOR_COLOR ? 1 + curve * static_cast<int>(HUES) / task.curves : 1;
    const uint8_t* value = task.palette.value + entry * channels;
    const auto put = [&](int32_t px, int32_t py) {
      const int32_t column = w.mirror ? size - 1 - (px - left) : px - left;
      uint8_t* pixel = task.out + static_cast<size_t>(py - top) * size + column;
      for (int c = 0; c < channels; ++c) pixel[c * plane] = value[c];
    };
    for (int i = 0; i < PIECES * (count - 1); ++i) {
      const int32_t x0 = static_cast<int32_t>(u[i]), y0 = static_cast<int32_t>(v[i]);
      const int32_t x1 = static_cast<int32_t>(u[i + 1]), y1 = static_cast<int32_t>(v[i + 1]);
      // Most pieces end on the pixel they start on, which the piece before has put, or on the next one.
      const bool short_piece = x1 - x0 + 1u <= 2u && y1 - y0 + 1u <= 2u;
      if (i == 0 || !short_piece)
        draw_line(x0, y0, x1, y1, clip, put);
      else if (x1 - left >= 0 && x1 - left < size && y1 - top >= 0 && y1 - top < size)
        put(x1, y1);
    }
  }
}

}  // namespace fdsl
