// Batches of point clouds, and of the scenes that say where they stand.
#pragma once

#include "cpu/affine.h"
#include "shared/clouds.h"

namespace fdsl {

// One cloud: its record, the catalog it and its partner come from, and where its points go, float (points, 3).
struct CloudTask {
  const CloudSpec* spec;
  const CloudInstance* instance;
  const AffineParameters* parameters;
  float* out;
};

// One picture of a cloud.
struct CloudPictureTask {
  const CloudSpec* cloud;
  const Spec* spec;
  const CloudPicture* instance;
  const AffineParameters* parameters;
  Palette palette;
  uint8_t* out;
};

// Floats for a coordinate of all points: each of the two parts ends with whole steps of all trajectories.
constexpr size_t cloud_room(int points) { return (static_cast<size_t>(points) / TRAJECTORIES + 3) * TRAJECTORIES; }

// Draws clouds (count, points, 3), one after the other.
void draw_clouds_batch(const Kernel& kernel, const AffineParameters& parameters, const CloudInstance* instances,
                       size_t count, const CloudSpec& spec, float* out, int threads);

// Draws the pictures of clouds.
void draw_cloud_pictures_batch(const Kernel& kernel, const AffineParameters& parameters, const CloudPicture* instances,
                               const CloudSpec& cloud, const Batch& batch);

// Places the objects of scenes numbered `scene`: `most` records to each, of which counts[i] are filled in.
void place_scenes_batch(const SceneSpec& spec, const uint32_t* scene, const uint32_t* epoch, size_t count, size_t most,
                        CloudInstance* objects, int32_t* counts, int threads);

}  // namespace fdsl
