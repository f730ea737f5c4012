#include "cpu/clouds.h"

#include "cpu/share.h"

namespace fdsl {

namespace {

size_t scratch_words(int points) { return 3 * cloud_room(points) / 2 + 8; }  // three coordinates, from a cache line on

}  // namespace

void draw_clouds_batch(const Kernel& kernel, const AffineParameters& parameters, const CloudInstance* instances,
                       size_t count, const CloudSpec& spec, float* out, int threads) {
  share(count, threads, scratch_words(spec.points), [&](size_t i, void* scratch) {
    kernel.draw_cloud({&spec, instances + i, &parameters, out + 3 * static_cast<size_t>(spec.points) * i}, scratch);
  });
}

void draw_cloud_pictures_batch(const Kernel& kernel, const AffineParameters& parameters, const CloudPicture* instances,
                               const CloudSpec& cloud, const Batch& batch) {
  share(batch.count, batch.threads, scratch_words(cloud.points) + picture_words(batch.spec),
        [&](size_t i, void* scratch) {
          kernel.draw_cloud_picture({&cloud, &batch.spec, instances + i, &parameters, batch.palette, batch.picture(i)},
                                    scratch);
        });
}

void place_scenes_batch(const SceneSpec& spec, const uint32_t* scene, const uint32_t* epoch, size_t count, size_t most,
                        CloudInstance* objects, int32_t* counts, int threads) {
  share(count, threads, 0,
        [&](size_t i, void*) { counts[i] = place_objects(spec, scene[i], epoch[i], objects + i * most); });
}

}  // namespace fdsl
