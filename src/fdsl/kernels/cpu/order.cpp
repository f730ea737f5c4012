#include "shared/order.h"

#include "cpu/order.h"

namespace fdsl {

void epoch_order(uint64_t seed, uint32_t epoch, uint64_t size, int64_t* positions, size_t count) {
  const OrderKey key = order_key(seed, epoch, size);
  for (size_t i = 0; i < count; ++i) positions[i] = static_cast<int64_t>(order_at(key, positions[i]));
}

}  // namespace fdsl
