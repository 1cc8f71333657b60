// JSON that strangers wrote: config.json, motet.json, an index of shards. Parsed with limits, read
// key by key; a key that nobody asks for is an error that names the nearest one.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace motet::detail {

/// Parses an object. Throws DataError "WHERE: ..." for text that is not JSON, is nested deeper than
/// 32, gives a key twice or is no object. NaN and Infinity, which Python writes and JSON lacks,
/// come out as the texts "NaN", "Infinity" and "-Infinity": no number accepts them.
nlohmann::json parse_json_object(std::string_view text, const std::string& where);

/// The members of one object by name. Every error is a DataError "WHERE: KEY = VALUE, must be ...".
/// A member that is null counts as absent unless said otherwise. The object must outlive this.
class JsonObject {
 public:
  JsonObject(const nlohmann::json& object, std::string where);

  /// True when the member is there and not null. Does not count as asking for it.
  bool has(const std::string& key) const;
  bool is_null(const std::string& key) const;

  /// A whole number of [low, high].
  int64_t integer(const std::string& key, int64_t fallback, int64_t low, int64_t high);
  std::optional<int64_t> optional_integer(const std::string& key, int64_t low, int64_t high);
  /// A finite number of [low, high].
  double number(const std::string& key, double fallback, double low, double high);
  std::optional<double> optional_number(const std::string& key, double low, double high);
  bool boolean(const std::string& key, bool fallback);
  /// One of `choices`, or anything where there are none.
  std::string text(const std::string& key, const std::string& fallback,
                   const std::vector<std::string>& choices = {});
  /// Lists of 1 to `most` entries; nothing where the member is absent.
  std::optional<std::vector<int64_t>> integers(const std::string& key, int64_t low, int64_t high,
                                               size_t most);
  std::optional<std::vector<double>> numbers(const std::string& key, double low, double high,
                                             size_t most);
  std::optional<std::vector<std::string>> texts(const std::string& key, size_t most);
  /// The member itself; null where it is absent.
  const nlohmann::json* member(const std::string& key);
  /// Members that may be there and are of no matter here.
  void allow(const std::vector<std::string>& keys);
  /// Throws for members that nobody asked for, but for names that begin with "_".
  void finish() const;
  /// Throws DataError "WHERE: KEY = VALUE, WHY".
  [[noreturn]] void fail(const std::string& key, const std::string& why) const;
  const std::string& where() const { return where_; }

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string> known_;
};

}  // namespace motet::detail
