// Objects on a canvas: a thread finds four pixels of the output, each the first of its picture's objects, from the
// front one on, that covers it; and what is seen of each object, on the way.
//
// What bounds it: the memory that it writes, a byte a pixel for each object's mask before all else.
#include "cuda/task.h"
#include "shared/composition.h"

namespace fdsl {

struct ComposeTask : Task {
  const uint8_t* pixels;  // of the objects, from which on their offsets count
  PlacedObject* objects;  // of picture 0, of picture 1, ...; boxes begin empty and turned about
  const int32_t* first;   // of each picture, and their number
  uint8_t* masks;         // (objects, size, size); or null
  uint32_t ground;        // a channel to a byte
  int32_t opaque;
};

struct SeenObject {
  int64_t offset;
  int32_t side, left, top;
  int32_t low[2], high[2], pixels;

  // Pixels [first, end) of a row.
  FDSL_MEMBER void see(int32_t row, int32_t column, int32_t end) {
    atomic_min(&low[0], column);
    atomic_min(&low[1], row);
    atomic_max(&high[0], end);
    atomic_max(&high[1], row + 1);
    atomic_add(&pixels, end - column);
  }
};

FDSL_INLINE void compose(const Block& block, const ComposeTask& task, void* out) {
  auto& objects = block.shared<SeenObject[MAX_OBJECTS]>();
  const Strip strip(block, task);
  const int first = task.first[strip.picture], count = task.first[strip.picture + 1] - first;
  block.each([&](int thread) {
    if (thread >= count) return;
    const PlacedObject& o = task.objects[first + thread];
    objects[thread] = {o.offset, o.side, o.left, o.top, {INT32_MAX, INT32_MAX}, {0, 0}, 0};
  });
  constexpr int CHANNELS = 3;
  const int size = task.spec.size, channels = task.channels;
  const uint32_t ground = task.ground;
  const int64_t plane = static_cast<int64_t>(size) * size;
  struct Words {
    uint32_t word[CHANNELS];
    FDSL_MEMBER uint32_t operator()(int c) const { return c == 0 ? word[0] : c == 1 ? word[1] : word[2]; }
  };
  write_pieces(block, task, strip, out, [&](int row, int column) {
    Words words;
    FDSL_UNROLL
    for (int c = 0; c < CHANNELS; ++c) words.word[c] = (ground >> 8 * c & 255u) * 0x01010101u;
    const int wanted = size - column < PIECE ? size - column : PIECE;
    int shown[PIECE] = {-1, -1, -1, -1}, open = wanted;  // the object that each shows; pixels that show none yet
    for (int j = count - 1; j >= 0 && open > 0; --j) {
      const SeenObject& o = objects[j];
      const int y = row - o.top, side = o.side;
      if (y < 0 || y >= side || column + PIECE <= o.left || column >= o.left + side) continue;
      const uint8_t* line = task.pixels + o.offset + static_cast<int64_t>(y) * side;
      FDSL_UNROLL
      for (int k = 0; k < PIECE; ++k) {
        const int x = column + k - o.left;
        if (k >= wanted || shown[k] >= 0 || x < 0 || x >= side) continue;
        uint32_t value[CHANNELS];
        bool covers = task.opaque;
        FDSL_UNROLL
        for (int c = 0; c < CHANNELS; ++c) {
          value[c] = c < channels ? line[static_cast<int64_t>(c) * side * side + x] : 0;
          covers |= c < channels && value[c] != (ground >> 8 * c & 255u);
        }
        if (!covers) continue;
        shown[k] = j;
        --open;
        FDSL_UNROLL
        for (int c = 0; c < CHANNELS; ++c) words.word[c] = (words.word[c] & ~(255u << 8 * k)) | value[c] << 8 * k;
      }
    }
    int from = 0;
    FDSL_UNROLL
    for (int k = 0; k < PIECE; ++k) {
      if (k + 1 < PIECE && shown[k + 1] == shown[k]) continue;
      if (shown[k] >= 0) objects[shown[k]].see(row, column + from, column + k + 1);
      from = k + 1;
    }
    if (task.masks) {
      uint8_t* to = task.masks + plane * first + static_cast<int64_t>(row) * size + column;
      for (int j = 0; j < count; ++j, to += plane) {
        uint32_t seen[PIECE];
        FDSL_UNROLL
        for (int k = 0; k < PIECE; ++k) seen[k] = shown[k] == j;
        store_piece(to, 1, wanted, seen);
      }
    }
    return words;
  });
  block.each([&](int thread) {
    if (thread >= count || !objects[thread].pixels) return;
    const SeenObject& seen = objects[thread];
    PlacedObject& o = task.objects[first + thread];
    for (int axis = 0; axis < 2; ++axis) {
      atomic_min(&o.box[axis], seen.low[axis]);
      atomic_max(&o.box[2 + axis], seen.high[axis]);
    }
    atomic_add(&o.pixels, seen.pixels);
  });
}

}  // namespace fdsl

FDSL_SIZE(compose_task, fdsl::ComposeTask)
FDSL_SIZE(seen_objects, fdsl::SeenObject[fdsl::MAX_OBJECTS])
FDSL_KERNEL(compose, ComposeTask)
