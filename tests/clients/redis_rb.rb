# Talks to a server with redis-rb: argv PORT SITE VERSION. Each line of stdin, {"way", "commands": [[word, ...], ...]},
# is answered by a line of replies, errors as {"error"}.
require "json"
require "redis"

$stdout.sync = true
port, site = ARGV
redis = Redis.new(port: port.to_i, username: site, password: "token", reconnect_attempts: 10, reconnect_delay: 0.05)

def shown(reply)
  reply.is_a?(Redis::CommandError) ? { error: reply.message } : reply
end

def asked(redis, command)
  redis.call(command)
rescue Redis::CommandError => e
  shown(e)
end

ways = {
  "single" => ->(commands) { commands.map { |command| asked(redis, command) } },
  "pipelined" => ->(commands) { redis.pipelined { |batch| commands.each { |command| batch.call(command) } } },
  "transaction" => ->(commands) { redis.multi { |batch| commands.each { |command| batch.call(command) } } },
}

$stdin.each_line do |line|
  asked = JSON.parse(line)
  puts JSON.generate(ways[asked["way"]].call(asked["commands"]).map { |reply| shown(reply) })
end
