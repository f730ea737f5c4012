// Where the objects of a composed picture lie: several instances on one canvas, placed by integers alone.
#pragma once

#include "philox.h"

namespace fdsl {

constexpr int MAX_OBJECTS = 255;  // an object's number fits a byte, 0 is the ground
constexpr int OBJECT_SIDES = 16;  // so many different sides, so that one call draws all objects of one
constexpr int PLACE_ROUNDS = 8;   // of two tries each to find room for an object

// What the compositions of a dataset share.
struct Composition {
  uint64_t seed;
  double overlap;       // share of the smaller of two squares that both may cover
  uint64_t categories;  // of the catalog
  uint64_t instances;   // of the dataset, a category
  int32_t size;         // pixels of the canvas's side
  int32_t fewest, most;
  int32_t side[OBJECT_SIDES];
  int32_t unused;
};

// A composed picture: its first object, and what keys the others.
struct ComposedPicture {
  uint32_t category, place, number, epoch, repeat;  // place: of the instance among the dataset's; number: its own
};

// An object; the last fields are found when the picture is composed.
struct PlacedObject {
  int64_t offset;                     // of its pixels (channels, side, side) among those of all objects
  uint32_t picture, category, place;  // picture: which of the batch
  int32_t side, left, top;
  int32_t box[4];  // of what is seen of it: x1, y1 and the exclusive ends x2, y2
  int32_t pixels;  // seen
  int32_t unused;
};

FDSL_INLINE int64_t common(int32_t first, int32_t first_side, int32_t second, int32_t second_side) {
  const int64_t low = first > second ? first : second;
  const int64_t first_end = first + first_side, second_end = second + second_side;
  const int64_t length = (first_end < second_end ? first_end : second_end) - low;
  return length > 0 ? length : 0;
}

// Places up to `most` objects, and gives their number. The first is the picture's own, at the back; one that finds no
// room in its tries is left out.
FDSL_INLINE int place_objects(const Composition& c, const ComposedPicture& it, uint32_t picture,
                              PlacedObject* objects) {
  const auto words = [&](int slot, int round) {
    return keyed_words(c.seed, it.category, it.number, it.epoch, PURPOSE_COMPOSITION, it.repeat, slot << 4 | round);
  };
  int count = 0, slots = c.most;
  for (int slot = 0; slot < slots; ++slot) {
    const Words drawn = words(slot, 0);
    if (slot == 0) slots = c.fewest + below(drawn.word[3], c.most - c.fewest + 1);
    PlacedObject object = {};
    object.picture = picture;
    object.category = slot ? below(drawn.word[0], c.categories) : it.category;
    object.place = slot ? below(drawn.word[1], c.instances) : it.place;
    object.side = c.side[below(drawn.word[2], OBJECT_SIDES)];
    bool fits = false;
    for (int round = 1; round <= PLACE_ROUNDS && !fits; ++round) {
      const Words at = words(slot, round);
      for (int half = 0; half < 2 && !fits; ++half) {
        object.left = below(at.word[2 * half], c.size - object.side + 1);
        object.top = below(at.word[2 * half + 1], c.size - object.side + 1);
        fits = true;
        for (int i = 0; i < count && fits; ++i) {
          const PlacedObject& other = objects[i];
          const int64_t smaller = object.side < other.side ? object.side : other.side;
          const int64_t shared = common(object.left, object.side, other.left, other.side) *
                                 common(object.top, object.side, other.top, other.side);
          fits = static_cast<double>(shared) <= c.overlap * static_cast<double>(smaller * smaller);
        }
      }
    }
    if (fits) objects[count++] = object;
  }
  return count;
}

}  // namespace fdsl
