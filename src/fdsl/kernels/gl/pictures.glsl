// What is known of a picture before it is drawn, and what holds it meanwhile. The engine says which drawing this is,
// and what its cells hold:
#define AFFINE 0
#define SPATIAL 1
#define CLOUDS 2
#define POINTS 3
#define POLYLINES 4
#define CONTOURS 5
#define BEZIER 6
#define PERLIN 7

#define BITS 0     // whether a cell is hit, 32 of a row to a word
#define COUNTS 1   // of points
#define KEYS 2     // of the last point, from 1 on: its step * 256 + its trajectory
#define STAMPS 3   // twice the key of the last patch, plus whether it set the cell or erased it
#define LINES 4    // the last line, from 1 on, * 256 + its row of the palette
#define NOTHING 5  // a pixel's row of the palette is worked out when it is written

const int MARGIN = 2;  // cells around the picture, which a patch may reach into

// The head of every record; cpu/bind_gl.cpp fills them in.
struct Picture {
  double view[6];         // x, y -> cells: rows of the matrix, then the shift
  int u0, v0, u1, v1;     // cells that are drawn
  int column[2], row[2];  // u, v -> column[0] u + column[1], row[0] v + row[1] of the grid
  int down, right;        // of a patch
  uint neighbours, category, number, epoch;
};

#if DRAWING == CLOUDS
struct Part {
  int threshold[8], alias[8];
  float coefficient[12 * 8];
  float start[3];
};
#endif

struct Record {
  Picture picture;
#if DRAWING == AFFINE
  int threshold[8], alias[8];
  float coefficient[6 * 8];
  float start[2];
  float box[4];
#elif DRAWING == SPATIAL
  double m[9], t[3];  // of the camera, which sees a cloud that spans 2 about the origin
  int threshold[8], alias[8];
  float coefficient[12 * 8];
  float start[3];
  float extent[5];
#elif DRAWING == CLOUDS
  double m[9], t[3];
  Part part[2];  // the category's own points, and its partner's
#elif DRAWING == POINTS || DRAWING == POLYLINES
  double m[9], t[3], corner[2];
  int first, count, first_line, dimensions;
#elif DRAWING == CONTOURS
  double axis[2], shift;
  float gain;
  float matrix[4], shift_of_contours[2], shift_of_breaks[2];
  int vertices, lines, frequency[2], shades, first_shade, breaks;
#elif DRAWING == BEZIER
  float matrix[4], shift[2];
  int control_points, curves, weights, unused;
#elif DRAWING == PERLIN
  float x[3], y[3];
  uint salt[2];
#endif
};

layout(std430, binding = 0) readonly buffer Records { Record records[]; };

// The grids of all pictures, which lie as the output does. The result depends on no order: bits are a set, counts are
// sums, and of several numbers the largest stays.
layout(std430, binding = 1) coherent buffer Cells { uint cells[]; };

uniform int size;  // of the output, in pixels
uniform uvec2 seed;

int side() { return size + 2 * MARGIN; }
int row_words() { return CELLS == BITS ? (side() + 31) / 32 : side(); }
int grid_words() { return side() * row_words(); }

ivec2 grid_place(Picture it, ivec2 cell) {
  return ivec2(it.column[0] * cell.x + it.column[1], it.row[0] * cell.y + it.row[1]);
}

// By all invocations of a work group, before any of them draws.
void clear_grid(int first) {
  for (int i = int(gl_LocalInvocationIndex); i < grid_words(); i += 256) cells[first + i] = 0u;
  memoryBarrierBuffer();
  barrier();
}
