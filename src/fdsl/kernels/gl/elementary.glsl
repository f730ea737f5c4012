// A coordinate held near, where a NaN ends too.
float held(float at, float farthest) {
  float above = at > -farthest ? at : -farthest;
  return above < farthest ? above : farthest;
}

// The cell that it lies in, toward zero; bounded again, for a driver that takes a NaN for a number.
int held_cell(float at, int farthest) { return clamp(int(held(at, float(farthest))), -farthest, farthest); }

// Sine and cosine of an angle in turns of 2^-32: shared/elementary.h.
dvec2 sine_cosine(uint turns) {
  uint quarter = turns + 0x20000000u >> 30;
  precise double x = double(int(turns - (quarter << 30))) * (6.283185307179586476925lf / 4294967296.0lf);
  precise double square = x * x;
  precise double s = -7.647163731819816e-13lf, c = -1.1470745597729725e-11lf;
  s = s * square + 1.6059043836821613e-10lf;
  c = c * square + 2.08767569878681e-09lf;
  s = s * square - 2.505210838544172e-08lf;
  c = c * square - 2.755731922398589e-07lf;
  s = s * square + 2.7557319223985893e-06lf;
  c = c * square + 2.48015873015873e-05lf;
  s = s * square - 1.984126984126984e-04lf;
  c = c * square - 1.388888888888889e-03lf;
  s = s * square + 8.333333333333333e-03lf;
  c = c * square + 4.1666666666666664e-02lf;
  s = s * square - 1.6666666666666666e-01lf;
  c = c * square - 0.5lf;
  s = x + x * square * s;
  c = 1.0lf + square * c;
  switch (quarter & 3u) {
    case 0u: return dvec2(s, c);
    case 1u: return dvec2(c, -s);
    case 2u: return dvec2(-s, -c);
    default: return dvec2(-c, s);
  }
}
