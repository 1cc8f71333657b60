// Other people's networks as models: diffusers folders, guided-diffusion checkpoints, exported
// programs. No Python at run time, and nothing is ever unpickled.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "motet/likelihood.hpp"
#include "motet/model.hpp"

namespace motet {

/// How a pretrained network is run.
struct PretrainedOptions {
  Compute compute = Compute::float32;
  std::string device = "cpu";
  /// Inputs of the network beside the point and the time, by the names that its files give them: a
  /// class ("class_labels"), embeddings of a text. One row, the same for all chains: a number or
  /// (*shape) or (1, *shape). Which there are: `motet info`.
  std::map<std::string, Tensor> inputs = {};
  /// Of a folder of diffusers that `motet train` wrote for data with conditions: the condition c, the
  /// numbers that the data give, of which the network sees condition_features(); empty: none, all
  /// zeros. Stands for the input "class_labels".
  std::optional<std::vector<double>> condition = {};
  /// > 0: only so many of the noise levels that the network was trained on, evenly spread, the
  /// first and the last among them (respacing, Nichol and Dhariwal 2021); 0: all.
  int64_t num_levels = 0;
  /// Load a network whose sampler clips or thresholds its estimates of x_0. motet does neither: the
  /// samples are those of the unclipped law.
  bool ignore_clipping = false;
};

/// What a path holds, by a look at its name and its config: what load_pretrained() would load.
enum class PretrainedKind {
  none,              ///< not one of these: a motet weights file, or nothing that is known
  diffusers,         ///< a folder with a config.json of diffusers, or a pipeline's folder
  guided_diffusion,  ///< a folder with a motet.json that says so
  exported_program,  ///< a TorchScript or AOTInductor file with its motet.json beside it
  mixer,             ///< an .eqx file of galaxygrad
};
PretrainedKind pretrained_kind(const std::string& path);

/// The files below or beside `path` that decide what load_pretrained() makes of it, in a fixed
/// order; none for PretrainedKind::none. Reads names only, and an index of shards.
std::vector<std::string> pretrained_files(const std::string& path);

/// Rows "name, text" of what a path holds: architecture, number of weights, shapes, inputs,
/// schedule, prediction. Reads no weight. Throws as load_pretrained(), but asks for no inputs.
std::vector<std::pair<std::string, std::string>> describe_pretrained(const std::string& path);

/// A network of other people's as a model: any of the below, by what the path holds. Points are the
/// network's own (images in [-1, 1] mostly), (C, H, W) of an image. Results come back on the device
/// of x; on the CPU a row's bits do not depend on the batch. Peak memory does not grow with the
/// batch. Throws ConfigError for options that do not fit the network (a missing class), for
/// settings that motet does not support and for a sampler that clips or thresholds, each named;
/// DataError for files that are missing, broken or of another network. A .pt or .ckpt, which is a
/// pickle, is refused unread.
ModelPtr load_pretrained(const std::string& path, std::string name,
                         const PretrainedOptions& options = {});

/// UNet2DModel of diffusers: a folder with config.json and diffusion_pytorch_model.safetensors
/// (or its shards with their index), and scheduler_config.json there or in ../scheduler; or a
/// pipeline's folder, whose unet/ and scheduler/ it is.
ModelPtr load_diffusers(const std::string& folder, std::string name,
                        const PretrainedOptions& options = {});

/// UNetModel of guided-diffusion (Dhariwal and Nichol 2021): a folder with model.safetensors and
/// motet.json, as tools/export/guided_diffusion.py writes it.
ModelPtr load_guided_diffusion(const std::string& folder, std::string name,
                               const PretrainedOptions& options = {});
/// log p(label | x_t) of guided-diffusion's EncoderUNetModel, for a label of 0 to K - 1.
LikelihoodPtr load_guided_diffusion_classifier(const std::string& folder, int64_t label,
                                               std::string name,
                                               const PretrainedOptions& options = {});

/// An exported program, TorchScript or an AOTInductor package, told by its contents, with
/// PATH.motet.json and PATH.pairs.safetensors as tools/export/ writes them (docs/loading.md).
/// Loading runs code of the program's maker, so load only programs that you trust. It runs in the
/// dtype that it was exported in, whatever options.compute says; a program that several models of a
/// process share is loaded once. Cost: a call for the reference pairs at loading, whose mismatch is
/// a DataError; then a call for each piece of rows. Throws ConfigError too for inputs that do not
/// fit and a package that was compiled for another device.
ModelPtr load_program(const std::string& path, std::string name,
                      const PretrainedOptions& options = {});

/// An MLP-Mixer score network of the package galaxygrad: its .eqx file, equinox's leaves. The sizes
/// are read from the shapes. 200 levels between t = .01 and the file's last time, even in log v,
/// alpha_bar = e^-t. Points are the network's own, log(1 + pixel) / .1, (C, H, W).
ModelPtr load_mixer(const std::string& path, std::string name,
                    const PretrainedOptions& options = {});

}  // namespace motet
