// Lines one pixel wide, as shared/lines.h draws them, an invocation each: the parts of it within the cells to draw.
void draw_line(int first, Picture it, ivec2 a, ivec2 b, uint number) {
  ivec2 apart = abs(b - a), forward = ivec2(b.x < a.x ? -1 : 1, b.y < a.y ? -1 : 1);
  bool steep = apart.x <= apart.y;
  int major = steep ? apart.y : apart.x, minor = steep ? apart.x : apart.y;
  int from = steep ? a.y : a.x, low = steep ? it.v0 : it.u0, high = steep ? it.v1 : it.u1;
  bool ahead = (steep ? forward.y : forward.x) > 0;
  int begin = max(ahead ? low - from : from - high + 1, 0), end = min(ahead ? high - 1 - from : from - low, major);
  if (begin > end) return;
  // (2 minor begin + major) / (2 major) and its remainder. The products leave 32 bits, the remainder does not: it tells
  // whether the quotient of doubles was one off.
  int across = 0;
  uint twice = 2u * uint(major), remainder = 0u;
  if (major > 0) {
    across = int(floor((2.0lf * double(minor) * double(begin) + double(major)) / double(twice)));
    remainder = 2u * uint(minor) * uint(begin) + uint(major) - uint(across) * twice;
    if (int(remainder) < 0) {
      remainder += twice;
      --across;
    } else if (remainder >= twice) {
      remainder -= twice;
      ++across;
    }
  }
  for (int i = begin; i <= end; ++i) {
    ivec2 cell = a + forward * (steep ? ivec2(across, i) : ivec2(i, across));
    if (cell.x >= it.u0 && cell.x < it.u1 && cell.y >= it.v0 && cell.y < it.v1) {
      ivec2 at = grid_place(it, cell);
      int index = first + at.y * row_words() + at.x;
      if (cells[index] < number) atomicMax(cells[index], number);
    }
    remainder += 2u * uint(minor);
    if (remainder >= twice) {
      remainder -= twice;
      ++across;
    }
  }
}
