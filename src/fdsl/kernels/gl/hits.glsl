// A point reaches a cell of the plane: its key is its step * 256 + its trajectory, from 1 on. What the cell holds
// already is read first, which spares most of the atomics.
void hit(int first, Picture it, ivec2 cell, uint key, uint stamp) {
  ivec2 at = grid_place(it, cell);
#if CELLS == BITS
  int index = first + at.y * row_words() + at.x / 32;
  uint bit = 1u << (at.x & 31);
  if ((cells[index] & bit) == 0u) atomicOr(cells[index], bit);
#elif CELLS == COUNTS
  atomicAdd(cells[first + at.y * row_words() + at.x], 1u);
#elif CELLS == KEYS
  int index = first + at.y * row_words() + at.x;
  if (cells[index] < key) atomicMax(cells[index], key);
#else
  // A 3x3 pattern of nine random bits, not all zero, whose zeros erase.
  uint pattern = 1u + ((stamp >> 16) * 511u >> 16);
  for (int k = 0; k < 9; ++k) {
    ivec2 to = at + ivec2((k % 3 - 1) * it.right, (k / 3 - 1) * it.down);
    int index = first + to.y * row_words() + to.x;
    uint number = key * 2u + (pattern >> k & 1u);
    if (cells[index] < number) atomicMax(cells[index], number);
  }
#endif
}
