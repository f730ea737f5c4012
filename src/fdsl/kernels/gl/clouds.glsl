// Clouds of the points of two systems: shared/clouds.h and cpu/clouds_painter.h. Nothing is kept: each part is walked
// for its ends, for its centroid, and to draw it.

uniform int points, own;

const int PARTNER_TRAJECTORIES = 64;

shared float low[3], high[3], lows[256 * 3], highs[256 * 3];
shared double middle[3], sums[256 * 3];
shared uint stamps[256];
shared float matrix[9], shift[3];  // of a point less its part's `low`, to homogeneous cells

// No NaN and nothing beyond 2^60 gets in.
const float MOST = 1.152921504606847e18;
vec3 here() { return vec3(held(x, MOST), held(y, MOST), held(z, MOST)); }

// What the centroid counts in: x -> (x - x) * y - 1, units of 2^-20.
vec2 min_max() {
  float least = min(low[0], min(low[1], low[2])), most = max(high[0], max(high[1], high[2]));
  double width = double(most) - double(least);
  return vec2(least, width > 7.888609052210118e-31lf ? float(2.0lf / width) : 0.0);
}

// Trajectory j's steps of `size` points that so many trajectories share.
int steps_of(int j, int trajectories, int size) {
  return j < trajectories ? max(size - j + trajectories - 1, 0) / trajectories : 0;
}

void find_ends(uint first, int steps) {
  int j = int(gl_LocalInvocationIndex);
  vec3 least = vec3(FAR), most = vec3(-FAR);
  if (steps > 0) begin(first);
  for (int s = 0; s < steps; ++s) {
    step_on();
    vec3 at = here();
    least = min(least, at);
    most = max(most, at);
  }
  for (int axis = 0; axis < 3; ++axis) {
    lows[256 * axis + j] = least[axis];
    highs[256 * axis + j] = most[axis];
  }
  barrier();
  if (j < 3) {
    for (int i = 1; i < 256; ++i) {
      lows[256 * j] = min(lows[256 * j], lows[256 * j + i]);
      highs[256 * j] = max(highs[256 * j], highs[256 * j + i]);
    }
    low[j] = lows[256 * j] + 0.0;
    high[j] = highs[256 * j] + 0.0;
  }
  barrier();
}

// In whole numbers, which add up alike in any order: a block of them fits 32 bits, all of them a double.
void find_centroid(uint first, int steps, int size) {
  int j = int(gl_LocalInvocationIndex);
  vec2 range = min_max();
  float scale = range.y * 1048576.0;
  dvec3 total = dvec3(0.0lf);
  ivec3 block = ivec3(0);
  if (steps > 0) begin(first);
  for (int s = 0; s < steps; ++s) {
    step_on();
    precise vec3 above = here() - range.x;
    for (int axis = 0; axis < 3; ++axis) block[axis] += int(fused(above[axis], scale, -1048576.0));
    if (s % 1024 == 1023 || s == steps - 1) {
      total += dvec3(block);
      block = ivec3(0);
    }
  }
  for (int axis = 0; axis < 3; ++axis) sums[256 * axis + j] = total[axis];
  barrier();
  if (j < 3) {
    double all = 0.0lf;
    for (int i = 0; i < 256; ++i) all += sums[256 * j + i];
    middle[j] = all / double(size) / 1048576.0lf;
  }
  barrier();
}

// Row `row` of the way from a part, normalised and centred, through the camera.
void place(int number, int row) {
  vec2 range = min_max();
  precise double scale = range.y, along = records[number].t[row];
  precise double sum = 0.0lf;
  for (int axis = 0; axis < 3; ++axis) {
    precise double m = records[number].m[3 * row + axis];
    precise double above = double(low[axis]) - double(range.x);
    precise double from = scale * above - 1.0lf - middle[axis];
    matrix[3 * row + axis] = float(m * scale);
    sum += m * double(float(from));
  }
  shift[row] = float(sum + along);
}

void main() {
  int number = int(gl_WorkGroupID.x), j = int(gl_LocalInvocationIndex), first = number * grid_words();
  clear_grid(first);
  Picture it = records[number].picture;
  stamps[j] = nonzero(philox(seed, uvec4(it.category, it.number, it.epoch, 256 + j)).x);
  for (int k = 0, before = 0; k < 2; ++k, before = own) {
    int size = k == 0 ? own : points - own, trajectories = k == 0 ? 256 : PARTNER_TRAJECTORIES;
    if (size == 0) break;
    for (int i = j; i < COEFFICIENTS * 8; i += 256) coefficient[i] = records[number].part[k].coefficient[i];
    if (j < 8) {
      threshold[j] = records[number].part[k].threshold[j];
      alias[j] = records[number].part[k].alias[j];
    }
    if (j < 3) start[j] = records[number].part[k].start[j];
    barrier();
    // A quarter of the start states is each word's.
    int which = 256 * k + j;
    uint state_of = nonzero(philox(seed, uvec4(it.category, it.number, it.epoch, which % 80))[which / 80 % 4]);
    int steps = steps_of(j, trajectories, size);
    find_ends(state_of, steps);
    find_centroid(state_of, steps, size);
    if (j < 3) place(number, j);
    barrier();
    if (steps > 0) begin(state_of);
    for (int s = 0; s < (size + trajectories - 1) / trajectories; ++s) {
      if (s < steps) {
        step_on();
        int point = before + s * trajectories + j;
        uint stamp = xorshift32(stamps[point % 256]);
        stamps[point % 256] = stamp;
        precise vec3 at = here() - vec3(low[0], low[1], low[2]);
        precise float seen[3];
        for (int row = 0; row < 3; ++row)
          seen[row] = fused(matrix[3 * row], at.x,
                            fused(matrix[3 * row + 1], at.y, fused(matrix[3 * row + 2], at.z, shift[row])));
        precise float inverse = 1.0 / seen[2];
        precise vec2 cell = vec2(seen[0] * inverse, seen[1] * inverse);
        if (cell.x >= float(it.u0) && cell.x < float(it.u1) && cell.y >= float(it.v0) && cell.y < float(it.v1))
          hit(first, it, ivec2(cell), uint(point) + 1u, stamp);
      }
#if CELLS == STAMPS
      barrier();  // a generator is another trajectory's at the next step
#endif
    }
    barrier();
  }
}
