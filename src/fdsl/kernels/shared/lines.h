// Straight lines one pixel wide, as Pillow's ImageDraw.line draws them (Bresenham's algorithm; libImaging/Draw.c), from
// the first end to the last, both included. The direction matters: a tie between two pixels goes with it.
#pragma once

#include "platform.h"

namespace fdsl {

// Pixels [x0, x1) x [y0, y1).
struct Clip {
  int32_t x0, y0, x1, y1;
};

// Pixel i of the line lies at (x + step_x * i, y + step_y * i), where the longer axis takes whole steps and the other
// (2 * minor * i + major) / (2 * major) of them, rounded down.
struct Line {
  int32_t x, y, major, minor, sign_x, sign_y;
  bool steep;  // y is the longer axis, or both are alike

  FDSL_MEMBER Line(int32_t x0, int32_t y0, int32_t x1, int32_t y1) : x(x0), y(y0) {
    const int32_t dx = x1 < x0 ? x0 - x1 : x1 - x0, dy = y1 < y0 ? y0 - y1 : y1 - y0;
    sign_x = x1 < x0 ? -1 : 1;
    sign_y = y1 < y0 ? -1 : 1;
    steep = dx <= dy;
    major = steep ? dy : dx;
    minor = steep ? dx : dy;
  }
};

constexpr int32_t SHORT_WAY = 8;

// Calls put(x, y) for the pixels within `clip` of the line between two pixels, whose coordinates are under 2^28: a
// line costs what is seen of its longer axis, and a short way to there, which is walked: a division costs more.
template <class Put>
FDSL_INLINE void draw_line(int32_t x0, int32_t y0, int32_t x1, int32_t y1, const Clip& clip, Put put) {
  const Line line(x0, y0, x1, y1);
  // Steps at which the longer axis is inside.
  const int32_t from = line.steep ? line.y : line.x, sign = line.steep ? line.sign_y : line.sign_x;
  const int32_t low = line.steep ? clip.y0 : clip.x0, high = line.steep ? clip.y1 : clip.x1;
  int32_t first = sign > 0 ? low - from : from - high + 1, last = sign > 0 ? high - 1 - from : from - low;
  if (first < 0) first = 0;
  if (last > line.major) last = line.major;
  if (first > last) return;
  // Bresenham's remainder at the first of them.
  const int32_t twice = 2 * line.major;
  int32_t across = 0, remainder = line.major;
  if (first > SHORT_WAY) {
    const int64_t at = 2 * static_cast<int64_t>(line.minor) * first + line.major;
    across = static_cast<int32_t>(at / twice);
    remainder = static_cast<int32_t>(at % twice);
  } else {
    first = 0;
  }
  FDSL_ROLLED
  for (int32_t i = first; i <= last; ++i) {
    const int32_t px = line.x + line.sign_x * (line.steep ? across : i);
    const int32_t py = line.y + line.sign_y * (line.steep ? i : across);
    if (px >= clip.x0 && px < clip.x1 && py >= clip.y0 && py < clip.y1) put(px, py);
    remainder += 2 * line.minor;
    if (remainder >= twice) {
      remainder -= twice;
      ++across;
    }
  }
}

}  // namespace fdsl
