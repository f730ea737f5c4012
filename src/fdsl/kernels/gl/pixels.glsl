// Cells to pixels: patches, then the palette. An invocation writes four bytes of a picture, uint8 (channels, size,
// size), whose end is filled up to a whole word.

layout(local_size_x = 256) in;

layout(std430, binding = 2) readonly buffer Palette { uint palette[]; };  // a byte a channel
layout(std430, binding = 3) writeonly buffer Pixels { uint pixels[]; };

uniform int bytes;  // of a picture

// The palette's row of what a cell holds.
uint entry(uint number) {
#if CELLS == COUNTS
  return min(number, 255u);
#elif CELLS == KEYS
  return number == 0u ? 0u : 1u + (number - 1u) / 256u % 128u;
#elif CELLS == STAMPS
  return (number & 1u) == 0u ? 0u : HUES != 0 ? 1u + (number / 2u - 1u) / 256u % 128u : 1u;
#elif CELLS == NOTHING
  return HUES != 0 ? 1u + number / 2u : number;
#else
  return number & 255u;
#endif
}

#if CELLS != NOTHING
uint cell(int number, ivec2 at) {
  int first = number * grid_words() + at.y * row_words();
#if CELLS == BITS
  return cells[first + at.x / 32] >> (at.x & 31) & 1u;
#else
  return cells[first + at.x];
#endif
}
#endif

void main() {
  int word = int(gl_GlobalInvocationID.x), number = int(gl_WorkGroupID.y), words = (bytes + 3) / 4;
  if (word >= words) return;
#if PATCH
  Picture it = records[number].picture;
#endif
  uint four = 0u;
  for (int k = 0; k < 4; ++k) {
    int place = min(4 * word + k, bytes - 1), channel = place / (size * size), pixel = place % (size * size);
    ivec2 at = ivec2(pixel % size, pixel / size) + MARGIN;
    uint found = cell(number, at);
#if PATCH
    for (int n = 0; n < 8; ++n) {
      int of = n < 4 ? n : n + 1;
      if ((it.neighbours >> n & 1u) != 0u)
        found = max(found, cell(number, at - ivec2((of % 3 - 1) * it.right, (of / 3 - 1) * it.down)));
    }
#endif
    four |= (palette[entry(found)] >> 8 * channel & 255u) << 8 * k;
  }
  pixels[number * words + word] = four;
}
