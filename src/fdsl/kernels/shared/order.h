// A keyed permutation of [0, size), evaluated per position: no memory, no start-up, any size up to 2^48.
//
// A Feistel network (Luby and Rackoff, 1988) over pairs of digits in base ceil(sqrt(size)), with sums modulo the base,
// and cycle walking (Black and Rogaway, 2002) for the few values at the end of the square that are not in [0, size).
#pragma once

#include "philox.h"

namespace fdsl {

constexpr int ORDER_ROUNDS = 12;

struct OrderKey {
  uint64_t size;
  uint32_t base;  // at most 2^24
  uint32_t round[ORDER_ROUNDS];
};

FDSL_INLINE OrderKey order_key(uint64_t seed, uint32_t epoch, uint64_t size) {
  OrderKey key;
  key.size = size;
  uint64_t base = 1;
  for (uint64_t step = uint64_t{1} << 24; step; step >>= 1)  // the largest base whose square is below size, plus one
    if ((base + step - 1) * (base + step - 1) < size) base += step;
  key.base = static_cast<uint32_t>(base);
  for (int i = 0; i < ORDER_ROUNDS; i += 4) {
    const Words r = keyed_words(seed, i / 4, 0, epoch, PURPOSE_ORDER, 0, 0);
    for (int j = 0; j < 4; ++j) key.round[i + j] = r.word[j];
  }
  return key;
}

// The finaliser of MurmurHash3: every bit of the input reaches every bit of the output.
FDSL_INLINE uint32_t mix(uint32_t h) {
  h = (h ^ h >> 16) * 0x85EBCA6Bu;
  h = (h ^ h >> 13) * 0xC2B2AE35u;
  return h ^ h >> 16;
}

// One pass over the square: maybe not below size.
FDSL_INLINE uint64_t order_pass(const OrderKey& key, uint64_t value) {
  uint32_t left = static_cast<uint32_t>(value / key.base), right = static_cast<uint32_t>(value % key.base);
  for (int i = 0; i < ORDER_ROUNDS; ++i) {
    const uint32_t step = below(mix(right ^ key.round[i]), key.base);
    uint32_t sum = left + step;
    sum -= sum >= key.base ? key.base : 0;
    left = right;
    right = sum;
  }
  return static_cast<uint64_t>(left) * key.base + right;
}

FDSL_INLINE uint64_t order_at(const OrderKey& key, uint64_t position) {
  do position = order_pass(key, position);
  while (position >= key.size);
  return position;
}

}  // namespace fdsl
