#pragma once

#include <cstddef>
#include <cstdint>

namespace fdsl {

// Replaces each position by its index in the order of the epoch.
void epoch_order(uint64_t seed, uint32_t epoch, uint64_t size, int64_t* positions, size_t count);

}  // namespace fdsl
