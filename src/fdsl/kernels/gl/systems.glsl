// Random iteration of a system in the plane or in space: shared/affine_ifs.h, spatial_ifs.h and camera.h, in which
// invocation j of a work group owns trajectory j of a picture.
//
// Bound on a processor by the steps; on a GPU it has not been measured.

uniform int points, whole, pad;

shared float fit[5];  // box x0 x1 y0 y1, or extent low high and centre

#if OWN_FIT
shared float low[256 * 2], high[256 * 2], sum[256 * 3];
shared int inside[256];

// The fit to the points within the probe's: what each trajectory finds, then a number an invocation, in the order of
// the trajectories.
void own_fit(int steps) {
  vec2 least = vec2(FAR), most = vec2(-FAR);
  precise vec3 total = vec3(0.0);
  int count = 0;
  for (int s = 0; s < steps; ++s) {
    step_on();
#if DRAWING == AFFINE
    if (x >= fit[0] && x <= fit[1] && y >= fit[2] && y <= fit[3]) {
      least = min(least, vec2(x, y));
      most = max(most, vec2(x, y));
      ++count;
    }
#else
    if (x >= fit[0] && x <= fit[1] && y >= fit[0] && y <= fit[1] && z >= fit[0] && z <= fit[1]) {
      least.x = min(least.x, min(x, min(y, z)));
      most.x = max(most.x, max(x, max(y, z)));
      total += vec3(x, y, z);
      ++count;
    }
#endif
  }
  int j = int(gl_LocalInvocationIndex);
  inside[j] = count;
  for (int axis = 0; axis < 2; ++axis) {
    low[256 * axis + j] = least[axis];
    high[256 * axis + j] = most[axis];
  }
  for (int axis = 0; axis < 3; ++axis) sum[256 * axis + j] = total[axis];
  barrier();
  float found = 0.0;
  int all = 0;
  if (j < 5) {
    for (int i = 0; i < 256; ++i) all += inside[i];
#if DRAWING == AFFINE
    int axis = j / 2;
    bool lower = j % 2 == 0;
#else
    int axis = 0;
    bool lower = j == 0;
#endif
    if (DIMENSIONS == 2 && j < 4 || j < 2) {
      found = lower ? FAR : -FAR;
      for (int i = 0; i < 256; ++i)
        found = lower ? min(found, low[256 * axis + i]) : max(found, high[256 * axis + i]);
      found += 0.0;
    } else if (DIMENSIONS == 3) {
      precise double mass = 0.0lf;
      for (int i = 0; i < 256; ++i) mass += double(sum[256 * (j - 2) + i]);
      found = float(mass / double(all));
    }
  }
  barrier();
  if (j < 5 && all > 0) fit[j] = found;
  barrier();
}
#endif

#if DRAWING == AFFINE
// A box's axis to [pad, whole - pad): scale and shift.
dvec2 place_axis(float first, float last) {
  precise double width = double(last) - double(first), pixels = double(whole - 2 * pad - 1);
  precise double scale = width > 0.0lf ? (pixels > 0.0lf ? pixels : 0.5lf) / width : 1.0lf;
  precise double shift = double(pad) + 0.00390625lf - scale * double(first);
  return dvec2(scale, shift);
}

// Map i in the coordinates of cells; and the start, by invocation 0.
void place(int number, int i) {
  dvec2 across = place_axis(fit[0], fit[1]), along = place_axis(fit[2], fit[3]);
  double v[6] = records[number].picture.view;
  precise double m00 = v[0] * across.x, m01 = v[1] * along.x, m10 = v[2] * across.x, m11 = v[3] * along.x;
  precise double t0 = v[0] * across.y + v[1] * along.y + v[4], t1 = v[2] * across.y + v[3] * along.y + v[5];
  precise double determinant = m00 * m11 - m01 * m10;
  precise double i00 = m11 / determinant, i01 = -m01 / determinant, i10 = -m10 / determinant, i11 = m00 / determinant;
  double a = coefficient[i], b = coefficient[8 + i], c = coefficient[16 + i];
  double d = coefficient[24 + i], e = coefficient[32 + i], f = coefficient[40 + i];
  precise double l00 = m00 * a + m01 * c, l01 = m00 * b + m01 * d, l10 = m10 * a + m11 * c, l11 = m10 * b + m11 * d;
  precise double a2 = l00 * i00 + l01 * i10, b2 = l00 * i01 + l01 * i11;
  precise double c2 = l10 * i00 + l11 * i10, d2 = l10 * i01 + l11 * i11;
  precise double e2 = m00 * e + m01 * f + t0 - a2 * t0 - b2 * t1, f2 = m10 * e + m11 * f + t1 - c2 * t0 - d2 * t1;
  coefficient[i] = float(a2);
  coefficient[8 + i] = float(b2);
  coefficient[16 + i] = float(c2);
  coefficient[24 + i] = float(d2);
  coefficient[32 + i] = float(e2);
  coefficient[40 + i] = float(f2);
  if (i == 0) {
    double sx = start[0], sy = start[1];
    precise double x0 = m00 * sx + m01 * sy + t0, y0 = m10 * sx + m11 * sy + t1;
    start[0] = float(x0);
    start[1] = float(y0);
  }
}

bool seen(out vec2 at) {
  at = vec2(x, y);
  return true;
}
#else
// Map i in the homogeneous coordinates of cells; and the start, by invocation 0.
void place(int number, int i) {
  double width = double(fit[1]) - double(fit[0]);
  precise double scale = width > 0.0lf ? 2.0lf / width : 1.0lf;
  precise double m[9], t[3], cofactor[9], inverse[9];
  for (int k = 0; k < 9; ++k) m[k] = scale * records[number].m[k];
  for (int row = 0; row < 3; ++row)
    t[row] = records[number].t[row] -
             (m[3 * row] * double(fit[2]) + m[3 * row + 1] * double(fit[3]) + m[3 * row + 2] * double(fit[4]));
  for (int row = 0; row < 3; ++row)
    for (int column = 0; column < 3; ++column) {
      int r = (row + 1) % 3, s = (row + 2) % 3, c = (column + 1) % 3, d = (column + 2) % 3;
      cofactor[3 * row + column] = m[3 * r + c] * m[3 * s + d] - m[3 * r + d] * m[3 * s + c];
    }
  precise double determinant = m[0] * cofactor[0] + m[1] * cofactor[1] + m[2] * cofactor[2];
  for (int row = 0; row < 3; ++row)
    for (int column = 0; column < 3; ++column)
      inverse[3 * row + column] = cofactor[3 * column + row] / determinant;
  float to[12];
  for (int row = 0; row < 3; ++row) {
    precise double left[3], shift = t[row];
    for (int column = 0; column < 3; ++column) {
      left[column] = 0.0lf;
      for (int k = 0; k < 3; ++k) left[column] += m[3 * row + k] * double(coefficient[8 * (3 * k + column) + i]);
      shift += m[3 * row + column] * double(coefficient[8 * (9 + column) + i]);
    }
    for (int column = 0; column < 3; ++column) {
      precise double entry =
          left[0] * inverse[column] + left[1] * inverse[3 + column] + left[2] * inverse[6 + column];
      to[3 * row + column] = float(entry);
      shift -= entry * t[column];
    }
    to[9 + row] = float(shift);
  }
  for (int k = 0; k < 12; ++k) coefficient[8 * k + i] = to[k];
  if (i == 0) {
    dvec3 from = dvec3(start[0], start[1], start[2]);
    for (int row = 0; row < 3; ++row) {
      precise double at = m[3 * row] * from.x + m[3 * row + 1] * from.y + m[3 * row + 2] * from.z + t[row];
      start[row] = float(at);
    }
  }
}

// The camera sees what lies from 1 to 100 away from it.
bool seen(out vec2 at) {
  precise float inverse = 1.0 / z;
  at = vec2(x * inverse, y * inverse);
  return z >= 1.0 && z <= 100.0;
}
#endif

void main() {
  int number = int(gl_WorkGroupID.x), j = int(gl_LocalInvocationIndex), first = number * grid_words();
  Picture it = records[number].picture;
  for (int i = j; i < COEFFICIENTS * 8; i += 256) coefficient[i] = records[number].coefficient[i];
  if (j < 8) {
    threshold[j] = records[number].threshold[j];
    alias[j] = records[number].alias[j];
  }
  if (j < DIMENSIONS) start[j] = records[number].start[j];
#if DRAWING == AFFINE
  if (j < 4) fit[j] = records[number].box[j];
#else
  if (j < 5) fit[j] = records[number].extent[j];
#endif
  clear_grid(first);

  uvec4 words = philox(seed, uvec4(it.category, it.number, it.epoch, j));
  words.x = nonzero(words.x);
  uint stamp = nonzero(words.y);
  int steps = (points - j + 255) / 256;
#if OWN_FIT
  begin(words.x);
  own_fit(steps);
#endif
  if (j < 8) place(number, j);
  barrier();

  begin(words.x);
  for (int s = 0; s < steps; ++s) {
    step_on();
    stamp = xorshift32(stamp);
    vec2 at;
    if (seen(at) && at.x >= float(it.u0) && at.x < float(it.u1) && at.y >= float(it.v0) && at.y < float(it.v1))
      hit(first, it, ivec2(at), uint(256 * s + j) + 1u, stamp);
  }
}
