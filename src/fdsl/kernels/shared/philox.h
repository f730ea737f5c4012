// Philox-4x32-10 (Salmon et al., SC 2011): random words as a pure function of a key and a counter, so that no
// picture depends on which pictures were drawn before it.
#pragma once

#include "platform.h"

namespace fdsl {

struct Words {
  uint32_t word[4];
};

// What a counter is for; at most 16. The numbers are part of the dataset format.
enum Purpose : uint32_t {
  PURPOSE_TRAJECTORY = 0,   // start states of the trajectories' generators
  PURPOSE_PATCH = 1,        // the ten 3x3 patterns of a category
  PURPOSE_VIEW = 2,         // crops and random views
  PURPOSE_INSTANCE = 3,     // continuously drawn instances
  PURPOSE_CANDIDATE = 4,    // parameters of a search's candidates
  PURPOSE_ORDER = 5,        // round keys of the epoch order
  PURPOSE_SPLIT = 6,        // which weight rows are held out
  PURPOSE_COMPOSITION = 7,  // objects of a composed picture
  PURPOSE_SCENE = 8,        // objects of a scene: which, how large and where
};

FDSL_INLINE Words philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0, p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The counter layout of the dataset format: category, instance number, epoch, purpose 4 | repeat 12 | trajectory 16.
FDSL_INLINE Words keyed_words(uint64_t seed, uint32_t category, uint32_t number, uint32_t epoch, uint32_t purpose,
                              uint32_t repeat, uint32_t trajectory) {
  return philox(seed, category, number, epoch, purpose << 28 | repeat << 16 | trajectory);
}

// The words of V::WIDTH trajectories at once: word[k] holds the word k of those from `first` on. Clouds of 2,048 points
// are drawn 5 to 8 % faster with it.
template <class V>
FDSL_INLINE void keyed_words(uint64_t seed, uint32_t category, uint32_t number, uint32_t epoch, uint32_t purpose,
                             uint32_t repeat, uint32_t first, typename V::Int* word) {
  using Int = typename V::Int;
  uint32_t trajectory[V::WIDTH];
  for (int i = 0; i < V::WIDTH; ++i) trajectory[i] = purpose << 28 | repeat << 16 | (first + i);
  const Int m0 = V::set(static_cast<int32_t>(0xD2511F53u)), m1 = V::set(static_cast<int32_t>(0xCD9E8D57u));
  Int c0 = V::set(static_cast<int32_t>(category)), c1 = V::set(static_cast<int32_t>(number));
  Int c2 = V::set(static_cast<int32_t>(epoch)), c3 = V::load(trajectory);
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const Int n0 = V::bit_xor(V::bit_xor(V::multiply_high(c2, m1), c1), V::set(static_cast<int32_t>(k0)));
    const Int n2 = V::bit_xor(V::bit_xor(V::multiply_high(c0, m0), c3), V::set(static_cast<int32_t>(k1)));
    c1 = V::multiply(c2, m1);
    c3 = V::multiply(c0, m0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  word[0] = c0;
  word[1] = c1;
  word[2] = c2;
  word[3] = c3;
}

// Uniform in [0, 1), exact in double.
FDSL_INLINE double unit(uint32_t word) { return word * 0x1p-32; }
// Uniform in [0, count), for counts up to 2^32.
FDSL_INLINE uint32_t below(uint32_t word, uint64_t count) { return static_cast<uint32_t>(word * count >> 32); }

}  // namespace fdsl
