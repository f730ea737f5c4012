// NumPy's legacy generator: MT19937 and 53-bit doubles, several times as fast as there because it vectorises.
#pragma once

#include <algorithm>
#include <cstdint>

// Wider registers change no result: the same IEEE operations, never contracted. ifunc is what GCC needs glibc for.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif

namespace fdsl {
namespace {

constexpr int DRAWS_AT_ONCE = 512;

inline uint32_t twist(uint32_t high, uint32_t low, uint32_t far) {
  return far ^ ((high & 0x80000000) | (low & 0x7FFFFFFF)) >> 1 ^ (-(low & 1) & 0x9908B0DF);
}

WIDEST void refill(uint32_t* key) {
  for (int i = 0; i < 227; ++i) key[i] = twist(key[i], key[i + 1], key[i + 397]);
  for (int i = 227; i < 623; ++i) key[i] = twist(key[i], key[i + 1], key[i - 227]);
  key[623] = twist(key[623], key[0], key[396]);
}

WIDEST void temper(const uint32_t* key, int count, uint32_t* words) {
  for (int i = 0; i < count; ++i) {
    uint32_t word = key[i];
    word ^= word >> 11;
    word ^= word << 7 & 0x9D2C5680;
    word ^= word << 15 & 0xEFC60000;
    words[i] = word ^ word >> 18;
  }
}

WIDEST void combine(const uint32_t* words, int count, double* draws) {
  for (int i = 0; i < count; ++i) {
    const int32_t high = words[2 * i] >> 5, low = words[2 * i + 1] >> 6;
    draws[i] = (high * 67108864.0 + low) / 9007199254740992.0;
  }
}

// The number of running sums below a draw is the place of the first one that is not.
WIDEST void choose(const double* draws, const double* sums, int maps, int count, uint8_t* chosen) {
  std::fill_n(chosen, count, 0);
  for (int j = 0; j < maps; ++j)
    for (int i = 0; i < count; ++i) chosen[i] += draws[i] > sums[j];
}

WIDEST int most_chosen(const uint8_t* chosen, int count) {
  uint8_t most = 0;
  for (int i = 0; i < count; ++i) most = chosen[i] > most ? chosen[i] : most;
  return most;
}

// The next words of the generator; returns its new position.
inline int next_words(uint32_t* key, int at, int count, uint32_t* words) {
  for (int i = 0, taken; i < count; i += taken, at += taken) {
    if (at == 624) refill(key), at = 0;
    taken = std::min(count - i, 624 - at);
    temper(key + at, taken, words + i);
  }
  return at;
}

// Chooses the maps of `count` steps with the next draws of the generator; returns its new position.
int choose_next(uint32_t* key, int at, const double* sums, int maps, int count, uint8_t* chosen) {
  uint32_t words[2 * DRAWS_AT_ONCE];
  double draws[DRAWS_AT_ONCE];
  for (int done = 0, steps; done < count; done += steps) {
    steps = std::min(DRAWS_AT_ONCE, count - done);
    at = next_words(key, at, 2 * steps, words);
    combine(words, steps, draws);
    choose(draws, sums, maps, steps, chosen + done);
  }
  return at;
}

}  // namespace
}  // namespace fdsl
