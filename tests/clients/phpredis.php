<?php
// Talks to a server with PhpRedis: argv PORT SITE VERSION. Each line of stdin, {"way", "commands": [[word, ...], ...]},
// is answered by a line of replies, errors as {"error"}.

function asked($redis, $command) {
    // An error whose code Redis does not have is thrown.
    try {
        $redis->clearLastError();
        $reply = $redis->rawCommand(...$command);
        $error = $redis->getLastError();
    } catch (RedisException $exception) {
        $error = $exception->getMessage();
    }
    return $error === null ? without_false($reply) : ["error" => $error];
}

// PhpRedis says false for nil and for an error.
function without_false($reply) {
    return is_array($reply) ? array_map("without_false", $reply) : ($reply === false ? null : $reply);
}

[, $port, $site] = $argv;
$redis = new Redis();
$redis->connect("127.0.0.1", (int) $port);
$redis->auth([$site, "token"]);
$redis->setOption(Redis::OPT_REPLY_LITERAL, true);

while (($line = fgets(STDIN)) !== false) {
    ["way" => $way, "commands" => $commands] = json_decode($line, true);
    if ($way === "single") {
        $replies = array_map(fn ($command) => asked($redis, $command), $commands);
    } else {
        $way === "pipelined" ? $redis->pipeline() : $redis->multi();
        foreach ($commands as $command) {
            $redis->rawCommand(...$command);
        }
        $replies = without_false($redis->exec());
    }
    echo json_encode($replies), "\n";
}
