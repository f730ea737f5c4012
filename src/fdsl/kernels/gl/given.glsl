// Points that Python has worked out: shared/given.h. Point i is point i / 256 of invocation i % 256.
// Bound by Python, which works them out.

layout(local_size_x = 256) in;
layout(std430, binding = 4) readonly buffer Coordinates { float coordinates[]; };

void main() {
  int number = int(gl_WorkGroupID.x), j = int(gl_LocalInvocationIndex), first = number * grid_words();
  clear_grid(first);
  Picture it = records[number].picture;
  uint stamp = nonzero(philox(seed, uvec4(it.category, it.number, it.epoch, j)).y);
  for (int i = j; i < records[number].count; i += 256) {
    stamp = xorshift32(stamp);
    precise dvec2 at;
    if (records[number].dimensions == 2) {
      int place = records[number].first + 2 * i;
      precise double x = double(coordinates[place]) - records[number].corner[0];
      precise double y = double(coordinates[place + 1]) - records[number].corner[1];
      at.x = it.view[0] * x + it.view[1] * y + it.view[4];
      at.y = it.view[2] * x + it.view[3] * y + it.view[5];
    } else {
      int place = records[number].first + 3 * i;
      precise double seen[3];
      for (int row = 0; row < 3; ++row)
        seen[row] = records[number].m[3 * row] * double(coordinates[place]) +
                    records[number].m[3 * row + 1] * double(coordinates[place + 1]) +
                    records[number].m[3 * row + 2] * double(coordinates[place + 2]) + records[number].t[row];
      at = dvec2(seen[0] / seen[2], seen[1] / seen[2]);
    }
    if (at.x >= double(it.u0) && at.x < double(it.u1) && at.y >= double(it.v0) && at.y < double(it.v1))
      hit(first, it, ivec2(at), uint(i) + 1u, stamp);
  }
}
