// The maps of a system in shared memory, and a trajectory's steps along them: an invocation owns one.

layout(local_size_x = 256) in;

const int DIMENSIONS = DRAWING == AFFINE ? 2 : 3;
const int COEFFICIENTS = DIMENSIONS * (DIMENSIONS + 1), BURN_IN = 32;
const float FAR = 3.4e38;  // no point within a box lies beyond

shared int threshold[8], alias[8];
shared float coefficient[COEFFICIENTS * 8];
shared float start[DIMENSIONS];

uint state;
float x, y, z;

// One coordinate of the map's image.
float moved(int map, int axis) {
#if DRAWING == AFFINE
  precise float to = fused(coefficient[16 * axis + map], x,
                           fused(coefficient[16 * axis + 8 + map], y, coefficient[32 + 8 * axis + map]));
#else
  precise float to = fused(coefficient[24 * axis + map], x,
                           fused(coefficient[24 * axis + 8 + map], y,
                                 fused(coefficient[24 * axis + 16 + map], z, coefficient[72 + 8 * axis + map])));
#endif
  return to;
}

void step_on() {
  state = xorshift32(state);
  int slot = int(state & 7u), map = int(state) < threshold[slot] ? slot : alias[slot];
  float to_x = moved(map, 0), to_y = moved(map, 1);
#if DRAWING != AFFINE
  z = moved(map, 2);
#endif
  x = to_x;
  y = to_y;
}

// From the start, past the steps that draw nothing.
void begin(uint first) {
  state = first;
  x = start[0];
  y = start[1];
#if DRAWING != AFFINE
  z = start[2];
#endif
  for (int s = 0; s < BURN_IN; ++s) step_on();
}
