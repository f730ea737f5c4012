#include "cpu/compose.h"

#include <cstring>

#include "cpu/engine.h"
#include "cpu/share.h"

namespace fdsl {
namespace {

// Bound by the memory that it moves: plain loops over bytes, which the compiler vectorises.
void paste(const ComposeBatch& batch, const PlacedObject& object, uint8_t id, uint8_t* picture, uint8_t* ids) {
  const size_t side = object.side, size = batch.size;
  const uint8_t* pixels = batch.pixels + object.offset;
  uint8_t hit[MAX_SIZE];  // 255 where the object covers, else 0
  for (size_t y = 0; y < side; ++y) {
    const size_t at = (object.top + y) * size + object.left;
    std::memset(hit, batch.opaque ? 255 : 0, side);
    for (int channel = 0; channel < batch.channels; ++channel) {
      const uint8_t *from = pixels + (channel * side + y) * side, ground = batch.ground[channel];
      for (size_t x = 0; x < side; ++x) hit[x] |= from[x] != ground ? 255 : 0;
    }
    for (int channel = 0; channel < batch.channels; ++channel) {
      const uint8_t* from = pixels + (channel * side + y) * side;
      uint8_t* to = picture + channel * size * size + at;
      for (size_t x = 0; x < side; ++x) to[x] = (from[x] & hit[x]) | (to[x] & ~hit[x]);
    }
    for (size_t x = 0; x < side; ++x) ids[at + x] = (id & hit[x]) | (ids[at + x] & ~hit[x]);
  }
}

// What is seen of an object, by the numbers of the objects that the pixels show.
void look(const ComposeBatch& batch, PlacedObject& object, uint8_t id, const uint8_t* ids, uint8_t* mask) {
  const int side = object.side;
  const size_t size = batch.size;
  uint8_t columns[MAX_SIZE] = {}, row[MAX_SIZE];
  int top = side, bottom = 0, left = 0, right = side;
  object.pixels = 0;
  if (mask) std::memset(mask, 0, size * size);
  for (int y = 0; y < side; ++y) {
    const size_t at = (object.top + y) * size + object.left;
    int seen = 0;
    for (int x = 0; x < side; ++x) {
      row[x] = ids[at + x] == id;
      columns[x] |= row[x];
      seen += row[x];
    }
    if (!seen) continue;
    if (mask) std::memcpy(mask + at, row, side);
    object.pixels += seen;
    top = std::min(top, y);
    bottom = y + 1;
  }
  if (!object.pixels) return;
  while (!columns[left]) ++left;
  while (!columns[right - 1]) --right;
  object.box[0] = object.left + left;
  object.box[1] = object.top + top;
  object.box[2] = object.left + right;
  object.box[3] = object.top + bottom;
}

}  // namespace

void compose_batch(const ComposeBatch& batch) {
  const size_t plane = static_cast<size_t>(batch.size) * batch.size;
  std::vector<size_t> first(batch.count + 1);
  for (size_t i = 0; i < batch.object_count; ++i) ++first[batch.objects[i].picture + 1];
  for (size_t i = 0; i < batch.count; ++i) first[i + 1] += first[i];
  share(batch.count, batch.threads, plane / 8 + 1, [&](size_t i, void* scratch) {
    uint8_t* picture = batch.out + i * batch.channels * plane;
    uint8_t* ids = static_cast<uint8_t*>(scratch);  // of the object that a pixel shows, from 1 up; 0 for none
    for (int channel = 0; channel < batch.channels; ++channel)
      std::memset(picture + channel * plane, batch.ground[channel], plane);
    std::memset(ids, 0, plane);
    const size_t begin = first[i], end = first[i + 1];
    for (size_t j = begin; j < end; ++j) paste(batch, batch.objects[j], j - begin + 1, picture, ids);
    for (size_t j = begin; j < end; ++j)
      look(batch, batch.objects[j], j - begin + 1, ids, batch.masks ? batch.masks + j * plane : nullptr);
  });
}

}  // namespace fdsl
