// Bits to bytes and back without vector instructions, for the lane types that have none for it.
#pragma once

#include <cstring>

#include "shared/platform.h"

namespace fdsl {

// 64 bits to 64 bytes of 0 or `value`; the lowest bit comes first, so the machine must be little-endian.
FDSL_INLINE void spread_bits(uint64_t bits, uint8_t value, uint8_t* to) {
  for (int i = 0; i < 8; ++i) {
    const uint64_t picked = (bits >> 8 * i & 0xFFu) * 0x0101010101010101ull & 0x8040201008040201ull;
    const uint64_t set = ((picked & 0x7F7F7F7F7F7F7F7Full) + 0x7F7F7F7F7F7F7F7Full) | picked;
    const uint64_t bytes = (set >> 7 & 0x0101010101010101ull) * value;
    std::memcpy(to + 8 * i, &bytes, 8);
  }
}

// 64 bytes of 0 or 1 to 64 bits.
FDSL_INLINE uint64_t gather_bits(const uint8_t* from) {
  uint64_t bits = 0;
  for (int i = 0; i < 8; ++i) {
    uint64_t bytes;
    std::memcpy(&bytes, from + 8 * i, 8);
    bits |= bytes * 0x0102040810204080ull >> 56 << 8 * i;
  }
  return bits;
}

}  // namespace fdsl
