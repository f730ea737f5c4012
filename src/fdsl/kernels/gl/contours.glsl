// Radial contours: shared/contours.h and noise.h. An invocation owns the segments that begin at its vertices; it steps
// both ends of each, line by line, and waits for none.
// Bound on a processor by the noise, of two vertices a segment; on a GPU it has not been measured.

layout(local_size_x = 256) in;

shared float slopes[256];  // of the lattice points

struct Vertex {
  float x, y, minus_cosine, minus_sine, bend;
  uint state_x, state_y;
};

Vertex make_vertex(int number, int i) {
  Picture it = records[number].picture;
  int count = records[number].vertices;
  uint turns = uint(floor((double(i) * 4294967296.0lf + double(count / 2)) / double(count)));
  dvec2 angle = sine_cosine(turns);
  precise double bend = records[number].shift;
  for (int k = 0; k < 2; ++k) bend -= 0.5lf * sine_cosine(uint(records[number].frequency[k]) * turns).x;
  uvec4 words = philox(seed, uvec4(it.category, it.number, it.epoch, i));
  return Vertex(float(records[number].axis[0] * angle.y), float(records[number].axis[1] * angle.x), float(-angle.y),
                float(-angle.x), float(bend), nonzero(words.x), nonzero(words.y));
}

float noise(uint word) {
  uint place, low;
  umulExtended(word, 10000u, place, low);
  precise float t = float(low >> 8) * 5.9604644775390625e-8;
  precise float cube = t * t * t;
  precise float faded = cube * fused(t, fused(t, 6.0, -15.0), 10.0);
  precise float before = slopes[place & 255u] * t, after = slopes[place + 1u & 255u] * (t - 1.0);
  return fused(faded, after - before, before);
}

void step_on(inout Vertex v, float gain) {
  v.state_x = xorshift32(v.state_x);
  v.state_y = xorshift32(v.state_y);
  precise float x = fused(v.minus_cosine, fused(gain, noise(v.state_x), v.bend), v.x);
  precise float y = fused(v.minus_sine, fused(gain, noise(v.state_y), v.bend), v.y);
  v.x = x;
  v.y = y;
}

int placed(int number, int axis, float x, float y, float shift) {
  precise float at = fused(records[number].matrix[2 * axis], x, fused(records[number].matrix[2 * axis + 1], y, shift));
  return held_cell(at, 1 << 20);
}

bool outside(Picture it, ivec2 a, ivec2 b) {
  return max(a.x, b.x) < it.u0 || min(a.x, b.x) >= it.u1 || max(a.y, b.y) < it.v0 || min(a.y, b.y) >= it.v1;
}

void main() {
  int number = int(gl_WorkGroupID.x), j = int(gl_LocalInvocationIndex), first = number * grid_words();
  const uint nibbles[32] = uint[](LATTICE_NIBBLES);
  uint h = nibbles[j / 8] >> j % 8 * 4;
  slopes[j] = (h & 8u) != 0u ? -1.0 : 1.0 + float(h & 7u);
  clear_grid(first);
  Picture it = records[number].picture;
  int count = records[number].vertices, lines = records[number].lines;
  float gain = records[number].gain;
  float shift_x = records[number].shift_of_contours[0], shift_y = records[number].shift_of_contours[1];
  for (int i = j; i < count; i += 256) {
    Vertex from = make_vertex(number, i), to = make_vertex(number, (i + 1) % count);
    for (int line = 0; line < lines; ++line) {
      step_on(from, gain);
      step_on(to, gain);
      ivec2 a = ivec2(placed(number, 0, from.x, from.y, shift_x), placed(number, 1, from.x, from.y, shift_y));
      ivec2 b = ivec2(placed(number, 0, to.x, to.y, shift_x), placed(number, 1, to.x, to.y, shift_y));
      if (outside(it, a, b)) continue;
      uint shade, low;
      uint word = philox(seed, uvec4(it.category, it.number, it.epoch, line)).z;
      umulExtended(word, uint(records[number].shades), shade, low);
      uint row = min(shade, 255u) + uint(records[number].first_shade) & 255u;
      draw_line(first, it, a, b, uint(line + 1) * 256u + row);
    }
  }
  // Lines in the ground's colour, anywhere in the plane, over all others.
  for (int i = j; i < records[number].breaks; i += 256) {
    uvec4 words = philox(seed, uvec4(it.category, it.number, it.epoch, 1u << 16 | uint(i)));
    vec4 ends = vec4(words >> 8) * 3.0517578125e-5;
    float x = records[number].shift_of_breaks[0], y = records[number].shift_of_breaks[1];
    ivec2 a = ivec2(placed(number, 0, ends.x, ends.y, x), placed(number, 1, ends.x, ends.y, y));
    ivec2 b = ivec2(placed(number, 0, ends.z, ends.w, x), placed(number, 1, ends.z, ends.w, y));
    draw_line(first, it, a, b, uint(lines + 1) * 256u);
  }
}
