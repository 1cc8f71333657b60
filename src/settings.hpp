// Settings from TOML, checked against a table of keys. The table is the only description of a
// config: the parser, `motet info --keys`, docs/config.md and the resume check all read it.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace motet::detail {

enum class KeyType { boolean, integer, number, text, integers, numbers, rows, texts };

/// Allowed interval of a number, or of every entry of a list.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  bool high_open = false;
  bool contains(double value) const;
  /// "> 0", ">= 1", "in [0, 1)"; "" when unbounded.
  std::string describe() const;
};

/// What a default hangs on: `key` (a text) has one of `values`. An empty key: on nothing.
struct Condition {
  std::string key;
  std::vector<std::string> values;
};

/// One key of a config.
struct Key {
  std::string name;            ///< dotted; one component may be "*": any name
  std::vector<KeyType> types;  ///< any of these
  std::string fallback = {};   ///< default, as TOML; empty: none
  Range range = {};
  std::vector<std::string> choices = {};  ///< for a text, or each of a list; empty: any
  std::string doc = {};
  bool changes_result = true;       ///< false: may differ when a run is resumed
  bool with_table = false;          ///< true: the default counts only when its table is given
  Condition only_with = {};         ///< the default counts only while this holds
  std::string other_fallback = {};  ///< takes the default's place while `other_with` holds
  Condition other_with = {};
  bool may_be_empty = false;     ///< a list without entries is allowed
  bool may_be_infinite = false;  ///< inf and -inf are allowed, NaN is not
};

using Value =
    std::variant<bool, int64_t, double, std::string, std::vector<int64_t>, std::vector<double>,
                 std::vector<std::vector<double>>, std::vector<std::string>>;

/// "an integer >= 1", "one of \"a\", \"b\"": what a key takes, for messages and docs.
std::string describe_allowed(const Key& key);
/// A value as TOML; numbers in the shortest form that reads back to the same bits.
std::string to_toml(const Value& value);
std::string number_text(double value);

/// A line of a config (from 1), and why it is refused before it is parsed.
struct BadLine {
  int64_t line;
  std::string why;
};
/// The first line with a byte that is not UTF-8 or, where there is none, with a key of so many
/// parts that parsing it would end the stack.
std::optional<BadLine> find_bad_line(std::string_view toml);
/// One line of at most 60 bytes, and " ..." for the rest.
std::string shorten(std::string text);
/// A dotted key without the blanks around its dots and at its ends.
std::string without_blanks(const std::string& name);
/// Whether TOML takes the name without quotes: a-z, A-Z, 0-9, _ and -.
bool is_bare(const std::string& part);

/// A checked flat view of a config: dotted key -> value, with the place each came from.
class Settings {
 public:
  /// Throws ConfigError ("config: FILE:LINE: ...") for bad TOML, unknown keys, wrong types and
  /// values out of range. `overrides` are "key=value" (--set), value as TOML or a bare word.
  static Settings parse(std::string_view toml, const std::string& file, std::vector<Key> keys,
                        const std::vector<std::string>& overrides);

  /// True when the config or an override gives the key (its default does not count).
  bool given(const std::string& name) const { return entries_.count(name) > 0; }
  /// True when any key of the table `prefix` is given.
  bool given_under(const std::string& prefix) const;
  /// Value or default; the type must be one of the key's.
  template <class T>
  T get(const std::string& name) const {
    return std::get<T>(value(name));
  }
  template <class T>
  bool holds(const std::string& name) const {
    return given(name) && std::holds_alternative<T>(entries_.at(name).value);
  }
  /// Names N of the keys "prefix.N.*", in the order of the file.
  std::vector<std::string> names_under(const std::string& prefix) const;
  /// The given keys "table.N", N without dots.
  std::vector<std::string> keys_in(const std::string& table) const;
  /// Whether the value comes from an override instead of the file.
  bool is_override(const std::string& name) const;
  /// "config: FILE:LINE: NAME: ", for messages about what is inside a value; "" for a target from an
  /// override, where the message shows the text itself.
  std::string label(const std::string& name) const;
  /// Forgets all keys of the table, as if they had not been given.
  void drop_table(const std::string& prefix);
  /// Throws ConfigError "config: FILE:LINE: NAME = VALUE, WHY" (without value: when not given).
  [[noreturn]] void fail(const std::string& name, const std::string& why) const;
  /// Throws ConfigError "config: FILE: WHY".
  [[noreturn]] void fail_whole(const std::string& why) const;

  /// Every given key and every default, as TOML text.
  std::map<std::string, std::string> resolved() const;
  /// The part of resolved() that decides the result.
  std::map<std::string, std::string> identity() const;
  /// A config that gives resolved() again.
  std::string resolved_toml() const;
  const std::string& file() const { return file_; }

 private:
  struct Entry {
    Value value;
    std::string where;  ///< "product.toml:12" or "--set"
    int64_t order = 0;
  };
  friend class SettingsReader;
  Value value(const std::string& name) const;
  bool is_met(const Condition& condition) const;
  const std::string& fallback(const Key& key) const;
  const Key* find_key(const std::string& name) const;

  std::string file_;
  std::vector<Key> keys_;
  std::map<std::string, Entry> entries_;
};

}  // namespace motet::detail
