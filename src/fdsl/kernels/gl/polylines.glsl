// Polylines that Python has worked out: shared/given.h, an invocation a vertex and the segment that ends there.

layout(local_size_x = 256) in;
layout(std430, binding = 4) readonly buffer Vertices { float vertices[]; };
layout(std430, binding = 5) readonly buffer Lines { int lines[]; };  // of each vertex

int cell_below(double at) { return int(floor(clamp(at, -134217728.0lf, 134217728.0lf))); }

ivec2 cell_of(int number, int vertex) {
  Picture it = records[number].picture;
  precise double x = double(vertices[2 * vertex]) - records[number].corner[0];
  precise double y = double(vertices[2 * vertex + 1]) - records[number].corner[1];
  precise double u = it.view[0] * x + it.view[1] * y + it.view[4], v = it.view[2] * x + it.view[3] * y + it.view[5];
  return ivec2(cell_below(u), cell_below(v));
}

void main() {
  int number = int(gl_WorkGroupID.x), begin = records[number].first, first = number * grid_words();
  clear_grid(first);
  for (int i = int(gl_LocalInvocationIndex); i < records[number].count; i += 256) {
    int vertex = begin + i, line = lines[vertex] - records[number].first_line;
    bool starts = i == 0 || lines[vertex - 1] != lines[vertex];
    ivec2 to = cell_of(number, vertex), from = starts ? to : cell_of(number, vertex - 1);
    uint row = HUES != 0 ? 1u + uint(line % 128 * 79 % 128) : 1u;
    draw_line(first, records[number].picture, from, to, uint(line + 1) * 256u + row);
  }
}
