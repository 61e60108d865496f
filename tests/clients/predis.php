<?php
// Talks to a server with Predis: argv PORT SITE VERSION. Each line of stdin, {"way", "commands": [[word, ...], ...]},
// is answered by a line of replies, errors as {"error"}.
require "Predis/Autoloader.php";
Predis\Autoloader::register();

function shown($reply) {
    if (is_array($reply)) {
        return array_map("shown", $reply);
    }
    if ($reply instanceof Predis\Response\ErrorInterface) {
        return ["error" => $reply->getMessage()];
    }
    return $reply instanceof Predis\Response\Status ? (string) $reply : $reply;
}

function asked($client, $command) {
    return shown($client->executeCommand(new Predis\Command\RawCommand($command)));
}

[, $port, $site] = $argv;

function connected($port, $site) {
    $client = new Predis\Client(["port" => (int) $port], ["exceptions" => false]);
    $client->executeRaw(["AUTH", $site, "token"]);
    return $client;
}

$client = connected($port, $site);
while (($line = fgets(STDIN)) !== false) {
    ["way" => $way, "commands" => $commands] = json_decode($line, true);
    try {
        $client->ping();
    } catch (Predis\Connection\ConnectionException $exception) {  // it does not connect again by itself
        $client = connected($port, $site);
    }
    if ($way === "single") {
        $replies = array_map(fn ($command) => asked($client, $command), $commands);
    } else {
        $batch = $way === "pipelined" ? $client->pipeline() : $client->transaction();
        foreach ($commands as $command) {
            $batch->executeCommand(new Predis\Command\RawCommand($command));
        }
        $replies = shown($batch->execute());
    }
    echo json_encode($replies), "\n";
}
