// The generator that steps: Philox seeds it, because Philox at every step would halve the speed.
#pragma once

#include "platform.h"

namespace fdsl {

// Marsaglia's xorshift32 (13, 17, 5), whose zero state would never leave zero.
template <class V>
FDSL_INLINE typename V::Int xorshift32(typename V::Int r) {
  r = V::bit_xor(r, V::template shift_left<13>(r));
  r = V::bit_xor(r, V::template shift_right<17>(r));
  return V::bit_xor(r, V::template shift_left<5>(r));
}
FDSL_INLINE uint32_t nonzero(uint32_t state) { return state ? state : 0x9E3779B9u; }

}  // namespace fdsl
