#include "cpu/clouds.h"

#include "cpu/share.h"

namespace fdsl {

void draw_clouds_batch(const Kernel& kernel, const CloudParameters& parameters, const CloudInstance* instances,
                       size_t count, const CloudSpec& spec, float* out, int threads) {
  const size_t scratch_words = 3 * cloud_room(spec.points) / 2 + 8;  // three coordinates, from a cache line on
  share(count, threads, scratch_words, [&](size_t i, void* scratch) {
    kernel.draw_cloud({&spec, instances + i, &parameters, out + 3 * spec.points * i}, scratch);
  });
}

void place_scenes_batch(const SceneSpec& spec, const uint32_t* scene, const uint32_t* epoch, size_t count, size_t most,
                        CloudInstance* objects, int32_t* counts, int threads) {
  share(count, threads, 0,
        [&](size_t i, void*) { counts[i] = place_objects(spec, scene[i], epoch[i], objects + i * most); });
}

}  // namespace fdsl
