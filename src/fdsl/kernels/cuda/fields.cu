// Fields, whose levels Python has worked out: from rows of the palette to the output. Bound by Python; here, by memory.
#include "cuda/task.h"

namespace fdsl {

// The levels follow the head of the task: (pictures, size, size).
struct FieldsTask : Task {
  const uint8_t* levels;
};

FDSL_INLINE void draw_fields(const Block& block, const FieldsTask& task, void* out) {
  const Strip strip(block, task);
  const int64_t size = task.spec.size;
  write_pieces(block, task, strip, out, [&](int row, int column) {
    const uint8_t* from = task.levels + (strip.picture * size + row) * size + column;
    uint32_t entries = 0;
    for (int k = 0; k < PIECE; ++k)
      if (column + k < size) entries |= static_cast<uint32_t>(from[k]) << 8 * k;
    return [=](int) { return entries; };
  });
}

}  // namespace fdsl

FDSL_SIZE(fields_task, fdsl::FieldsTask)
FDSL_KERNEL(draw_fields, FieldsTask)
