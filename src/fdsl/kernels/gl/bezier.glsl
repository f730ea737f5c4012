// Bezier curves: shared/bezier.h. An invocation owns a point of a curve, then the piece that begins there.

layout(local_size_x = 256) in;
layout(std430, binding = 4) readonly buffer Weights { float weights[]; };

const int PIECES = 16, MOST = 65;
shared vec2 control[MOST];
shared ivec2 points[PIECES * MOST];

int placed(int number, int axis, vec2 at) {
  precise float to = fused(records[number].matrix[2 * axis], at.x,
                           fused(records[number].matrix[2 * axis + 1], at.y, records[number].shift[axis]));
  return held_cell(to, 1 << 27);
}

void main() {
  int number = int(gl_WorkGroupID.x), j = int(gl_LocalInvocationIndex), first = number * grid_words();
  clear_grid(first);
  Picture it = records[number].picture;
  int count = records[number].control_points, curves = records[number].curves;
  for (int curve = 0; curve < curves; ++curve) {
    if (j < count) {
      int n = curve * count + j;
      uvec4 words = philox(seed, uvec4(it.category, it.number, it.epoch, 3u << 28 | uint(n / 2)));
      control[j] = vec2(n % 2 == 0 ? words.xy >> 8 : words.zw >> 8) * 5.9604644775390625e-8;
    }
    barrier();
    for (int i = j; i < PIECES * count; i += 256) {
      precise vec2 at = vec2(0.0);
      for (int k = 0; k < count; ++k) {
        float weight = weights[records[number].weights + k * PIECES * count + i];
        at = vec2(fused(weight, control[k].x, at.x), fused(weight, control[k].y, at.y));
      }
      points[i] = ivec2(placed(number, 0, at), placed(number, 1, at));
    }
    barrier();
    uint row = HUES != 0 ? 1u + uint(curve * 128 / curves) : 1u;
    for (int i = j; i < PIECES * (count - 1); i += 256)
      draw_line(first, it, points[i], points[i + 1], uint(curve + 1) * 256u + row);
  }
}
