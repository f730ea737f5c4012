// Objects on a canvas: pictures that were drawn at the objects' sides, pasted in order, and what is seen of each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "shared/composition.h"

namespace fdsl {

// A batch to compose. Byte for byte the same on every machine: nothing but copies and comparisons.
struct ComposeBatch {
  const uint8_t* pixels;  // of the objects, from which on their offsets count
  PlacedObject* objects;  // of picture 0, of picture 1, ...; later ones in front; box and pixels are filled in
  size_t object_count;
  const uint8_t* ground;  // (channels): what of an object is as its ground lets through what is behind
  bool opaque;            // or nothing does
  int channels, size;
  uint8_t* out;    // (count, channels, size, size)
  uint8_t* masks;  // (object_count, size, size): 1 where the object is seen, else 0; or null
  size_t count;
  int threads;
};

void compose_batch(const ComposeBatch& batch);

}  // namespace fdsl
