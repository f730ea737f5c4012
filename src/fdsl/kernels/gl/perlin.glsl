// Gradient noise: shared/perlin.h.

float gradient_x(uint which) {
  const float cosines[8] = float[](1.0, 0.707106781, 0.0, -0.707106781, -1.0, -0.707106781, 0.0, 0.707106781);
  return cosines[which & 7u];
}

float corner(uint column, uint row, float x, float y) {
  uint h = (column ^ row) * 0x85EBCA6Bu;
  h = (h ^ h >> 15) * 0xC2B2AE35u;
  uint which = h >> 29;
  precise float along = gradient_x(which + 6u) * y;
  return fused(gradient_x(which), x, along);
}

float fade(float t) {
  precise float cube = t * t * t;
  precise float faded = cube * fused(t, fused(t, 6.0, -15.0), 10.0);
  return faded;
}

// The level of a pixel: zero is 128, the farthest values are 0 and 255.
uint cell(int number, ivec2 at) {
  Picture it = records[number].picture;
  float column = float((at.x - it.column[1]) * it.column[0]) + 0.5, row = float((at.y - it.row[1]) * it.row[0]) + 0.5;
  Record r = records[number];
  precise float x = fused(r.x[0], column, fused(r.x[1], row, r.x[2]));
  precise float y = fused(r.y[0], column, fused(r.y[1], row, r.y[2]));
  x = held(x, 1048576.0);
  y = held(y, 1048576.0);
  float whole_x = floor(x), whole_y = floor(y);
  uint left = uint(int(whole_x)) * 0x9E3779B1u + r.salt[0], right = left + 0x9E3779B1u;
  uint top = uint(int(whole_y)) * 0x85EBCA77u + r.salt[1], bottom = top + 0x85EBCA77u;
  x -= whole_x;
  y -= whole_y;
  precise float x1 = x - 1.0, y1 = y - 1.0;
  float a = corner(left, top, x, y), b = corner(right, top, x1, y);
  float c = corner(left, bottom, x, y1), d = corner(right, bottom, x1, y1);
  float across = fade(x);
  precise float upper = fused(across, b - a, a), lower = fused(across, d - c, c);
  precise float value = fused(fade(y), lower - upper, upper);
  precise float level = fused(value, 127.5 / 0.707106781, 128.0);
  return uint(clamp(level, 0.0, 255.0));
}
