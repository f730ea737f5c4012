// Philox-4x32-10 and xorshift32, as shared/philox.h and shared/xorshift.h have them: integers, and so exact.

uvec4 philox(uvec2 key, uvec4 c) {
  for (int round = 0; round < 10; ++round) {
    uint high0, low0, high1, low1;
    umulExtended(0xD2511F53u, c.x, high0, low0);
    umulExtended(0xCD9E8D57u, c.z, high1, low1);
    c = uvec4(high1 ^ c.y ^ key.x, low1, high0 ^ c.w ^ key.y, low0);
    key += uvec2(0x9E3779B9u, 0xBB67AE85u);
  }
  return c;
}

uint nonzero(uint state) { return state != 0u ? state : 0x9E3779B9u; }

uint xorshift32(uint r) {
  r ^= r << 13;
  r ^= r >> 17;
  return r ^ r << 5;
}
