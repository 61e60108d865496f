<?php
// Sends the commands on stdin to a server with PhpRedis, one by one, and then those that are good as a pipeline, for
// which PhpRedis keeps no errors; writes the replies.
// stdin: {"port", "commands": [[word, ...], ...]}; stdout: {"single": [...], "pipelined": [...]}, errors as {"error"}.

function connected($port, $site) {
    $redis = new Redis();
    $redis->connect("127.0.0.1", $port);
    $redis->auth([$site, "token"]);
    $redis->setOption(Redis::OPT_REPLY_LITERAL, true);
    return $redis;
}

// PhpRedis says false for nil and for an error.
function without_false($reply) {
    return is_array($reply) ? array_map("without_false", $reply) : ($reply === false ? null : $reply);
}

$asked = json_decode(stream_get_contents(STDIN), true);

$redis = connected($asked["port"], "php-single");
$single = [];
foreach ($asked["commands"] as $command) {
    // An error whose code Redis does not have is thrown.
    try {
        $redis->clearLastError();
        $reply = $redis->rawCommand(...$command);
        $error = $redis->getLastError();
    } catch (RedisException $exception) {
        $error = $exception->getMessage();
    }
    $single[] = $error === null ? without_false($reply) : ["error" => $error];
}
$redis->close();

$redis = connected($asked["port"], "php-pipelined");
$redis->pipeline();
foreach ($asked["commands"] as $nth => $command) {
    if (!isset($single[$nth]["error"])) {
        $redis->rawCommand(...$command);
    }
}
$pipelined = without_false($redis->exec());
$redis->close();

echo json_encode(["single" => $single, "pipelined" => $pipelined]);
