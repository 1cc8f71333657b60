// Folders of guided-diffusion: model.safetensors and a motet.json with the reference code's flags.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "motet/schedule.hpp"
#include "nets/adm.hpp"

namespace motet::detail {

/// The flags of the reference code that say which diffusion a network was trained for.
struct GuidedDiffusion {
  std::string noise_schedule = "linear";  ///< or "cosine"
  int64_t num_steps = 1000;               ///< diffusion_steps, 1 to 100,000
  std::string respacing;                  ///< timestep_respacing: "", "250", "ddim50", "10,15,20"
  bool rescales_times = false;            ///< rescale_timesteps: times of 0 to 1000 for any number
  bool predicts_x_0 = false;              ///< predict_xstart
};

/// What a folder's motet.json says.
struct GuidedFile {
  bool is_classifier = false;
  AdmConfig network;
  GuidedDiffusion diffusion;
  /// clip_denoised, of the sampling scripts: x_0 is cut to [-1, 1], which motet does not do.
  bool clips = false;
};

/// Reads motet.json: {"format": "guided-diffusion", "network": "UNetModel" or "EncoderUNetModel",
/// "flags": the reference code's, "constants": what it has no flags for}. Flags that are left out
/// have the reference's defaults. `where` opens the messages. Throws DataError.
GuidedFile parse_guided_file(std::string_view text, const std::string& where);
/// What parse_guided_file() reads.
std::string guided_file_text(const GuidedFile& file);

/// The steps of 0 .. num_steps - 1 that `respacing` keeps, rising; "" keeps all. Throws ConfigError
/// for other texts, and counts that do not fit.
std::vector<int64_t> spaced_steps(int64_t num_steps, const std::string& respacing);
/// The kept steps' alpha_bars: those of the whole schedule. Throws ConfigError.
NoiseSchedule guided_schedule(const GuidedDiffusion& diffusion);
/// The network's time at each level of it.
std::vector<double> guided_times(const GuidedDiffusion& diffusion);

/// Writes FOLDER/model.safetensors and FOLDER/motet.json, each atomically, and the folder if it is
/// not there. Throws ConfigError, DataError for tensors that are not the network's, and where it
/// cannot be written. `metadata` goes into the header of the tensors.
void save_guided_diffusion(const std::string& folder, const GuidedFile& file,
                           const TensorMap& tensors,
                           const std::map<std::string, std::string>& metadata = {});

}  // namespace motet::detail
